"""Spend nothing on fast code where a program runs once: its compilation is the test's time."""

import jax
import pytest


@pytest.fixture
def quick_compilation():
    """Compile without most optimisations; numbers stay those of the same program."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
