"""Less work for each of the thousands of programs that the suite compiles."""

import threading

# Programs that are lowered in one MLIR context before it is thrown away with all it has interned.
_PROGRAMS_A_CONTEXT = 200


def share_contexts() -> None:
    """One MLIR context for many programs, not one a program: a third of lowering a small one.

    A program that is lowered while another one is has its own, for what is active there would be
    taken for its surroundings. JAX has no public way; where it makes contexts elsewhere, programs
    are lowered as slowly as they were.
    """
    try:
        from jax._src.interpreters import mlir
        from jaxlib.mlir import ir

        make = mlir.make_ir_context
    except (ImportError, AttributeError):
        return
    own = threading.local()

    def shared():
        if ir.Context.current is not None:
            return make()
        if getattr(own, "left", 0) == 0:
            own.context, own.left = make(), _PROGRAMS_A_CONTEXT
        own.left -= 1
        return own.context

    mlir.make_ir_context = shared
