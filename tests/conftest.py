"""Devices and fixtures for every test file; strict JAX is held by tests/test_options.py."""

import os

# Before JAX starts: four devices on the host, so that sharding is testable anywhere.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test: exact answers are compared at 1e-9."""
    with jax.enable_x64(True):
        yield
