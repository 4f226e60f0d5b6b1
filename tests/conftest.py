"""Strict JAX for the whole suite, and the fixtures that every test file may use."""

import os

# Before JAX starts: four devices on the host, so that sharding is testable anywhere.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture
def x64():
    """Double precision for one test: exact answers are compared at 1e-9."""
    with jax.enable_x64(True):
        yield
