"""Devices and fixtures for every test file; strict JAX is held by tests/test_options.py."""

import os
from pathlib import Path

# Before JAX starts: four devices on the host, so that sharding is testable anywhere.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Most of a test's time is compilation: what one worker, subprocess or run compiled, others read.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest
import shape_checks

# `make test-shapes`: every shape in a signature of jacreg and models, checked at every call.
if os.environ.get("CHECK_SHAPES"):
    shape_checks.install()


@pytest.fixture
def x64():
    """Double precision for one test: exact answers are compared at 1e-9."""
    with jax.enable_x64(True):
        yield
