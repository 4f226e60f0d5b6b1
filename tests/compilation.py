"""Spend nothing on fast code where a program runs once: its compilation is the test's time."""

import threading

import jax
import pytest


@pytest.fixture
def quick_compilation():
    """Compile without most optimisations; numbers stay those of the same program."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def share_contexts() -> None:
    """One MLIR context a thread, not one a program: making it is 40 % of lowering a small one.

    JAX has no public way; where it makes contexts elsewhere, programs are as slow as they were.
    """
    try:
        from jax._src.interpreters import mlir

        make = mlir.make_ir_context
    except (ImportError, AttributeError):
        return
    own = threading.local()

    def shared():
        if not hasattr(own, "context"):
            own.context = make()
        return own.context

    mlir.make_ir_context = shared
