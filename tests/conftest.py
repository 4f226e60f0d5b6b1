"""Devices and fixtures for every test file; strict JAX is held by tests/test_options.py."""

import gc
import os
from importlib.metadata import version
from pathlib import Path

# Before JAX starts. Four devices on the host, so that sharding is testable anywhere. Most of a
# test's time is compilation: LLVM does not optimise (XLA's own passes, and so the programs, stay),
# its modules stay whole (cut into 32 for as many threads they cost up to twice the time), and 0.10
# takes its older emitters, half of what is left; later releases end on an unknown flag.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    + " --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What one worker, subprocess or run compiled, others read.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest
import shape_checks
from compilation import share_contexts

share_contexts()

# Frameworks make millions of objects that stay: a collection every 700 of them is a twentieth of
# the suite.
gc.set_threshold(20_000)

# `make test-shapes`: every shape in a signature of jacreg and models, checked at every call.
if os.environ.get("CHECK_SHAPES"):
    shape_checks.install()


def pytest_collection_finish():
    """What was imported stays: collections need not walk through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def compilations():
    """What was compiled, a name each; cleared by who counts."""
    found = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: found.append(name) if "backend_compile" in name else None
    )
    jax.jit(lambda x: x * 17)(1.0)
    assert found, "the listener sees no compilation"
    return found


@pytest.fixture
def x64():
    """Double precision for one test: exact answers are compared at 1e-9."""
    with jax.enable_x64(True):
        yield
