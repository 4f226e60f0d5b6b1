"""An upper bound of a network's Lipschitz constant, along its layers and their programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._memory import is_symbolic, known_size
from .._structure import accumulate_dtype
from ._activations import with_activations
from ._dense import fits
from ._double import in_double
from ._linear import RULES, InTheWay, Values, beside, rounded_up
from ._nonlinear import TABLE
from ._operator_norm_bound import gain_of, written_out_bound
from ._program import Activation, Program, Step, read_program
from ._rows_alike import rows_alike

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def lipschitz_bound(
    layers: Callable[[Array], Array] | Sequence[Callable[[Array], Array]],
    xs: Float[Array, "N *in"] | jax.ShapeDtypeStruct,
) -> Float[Array, ""]:
    """An upper bound of a network's Lipschitz constant in the l2 norm: it holds always.

    An L with ||f(x) - f(y)|| <= L ||x - y|| for all x and y of the shape of `xs`, whose values do
    not matter: the product of the layers' own. A layer's program is read: linear parts as in
    `operator_norm_bound`, activations by their steepest slope (relu, tanh, sigmoid, softplus,
    gelu, silu, elu, softmax, MaxMin, ..., leaky relus whose slopes may be learned), max-pooling
    by how many windows an entry is in, branches that are added by the sum, concatenations by the
    root of the sum of squares. A layer with a method `lipschitz_bound()` is taken at its word, as
    those of `jacreg.nnx` and `jacreg.eqx` are.

    Args:
        layers: functions of a batch, one after the other, or one function: modules of nnx,
            `jacreg.nnx.function(module)`, `jacreg.linen.function(...)`, `jacreg.eqx.function(...)`
            (an Equinox module takes one example: `jax.vmap(layer)`).
        xs: `[N, *in]`, a batch or its `jax.ShapeDtypeStruct`.

    Returns:
        A scalar, differentiable in the layers' parameters.

    Raises:
        ValueError: an operation has no bound (a product of two values, a division by one, layer
            normalisation, batch statistics, dot-product attention); the message names it. Or layers
            mix the rows of a batch whose length is a symbol (jax.export).
        TypeError: `layers` is not of functions.

    Source:
        Szegedy et al. 2014 (arXiv:1312.6199), section 4.3, with bounds that hold.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> jacreg.lipschitz_bound([lambda xs: 2 * xs, jnp.tanh], jnp.ones((1, 3))).round(3)
        Array(2., dtype=float32)
    """
    if callable(layers):
        layers = [layers]
    if not isinstance(layers, Sequence) or not all(callable(layer) for layer in layers):
        raise TypeError(
            "lipschitz_bound: layers must be a function of a batch or a list of them, got "
            f"{type(layers).__name__}; write [layer_1, layer_2, ...]."
        )
    given = _inputs(layers, jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    total = jnp.ones((), accumulate_dtype(xs.dtype))
    for index, (layer, struct) in enumerate(zip(layers, given, strict=True)):
        own = getattr(layer, "lipschitz_bound", None)
        bound = own() if callable(own) else _layer_bound(layer, _some_rows(layer, struct), index)
        total = total * jnp.asarray(bound, total.dtype)
    # The product of so many rounded numbers may be low by as many units in the last place.
    return total * (1 + 4 * len(layers) * float(jnp.finfo(total.dtype).eps))


def apart_and_alike(layers: Sequence[Callable[..., Any]], struct: jax.ShapeDtypeStruct) -> bool:
    """Whether each layer whose program is read does the same to each row of any batch."""
    return all(
        callable(getattr(layer, "lipschitz_bound", None)) or rows_alike(layer, given)
        for layer, given in zip(layers, _inputs(layers, struct), strict=True)
    )


def _some_rows(layer: Callable[[Array], Array], struct: jax.ShapeDtypeStruct) -> Any:
    """One row where that tells all, which a smaller matrix can; else the batch.

    Raises:
        ValueError: the batch is needed, and its length is a symbol.
    """
    if not struct.shape or known_size(struct.shape[0]) == 1:
        return struct
    if known_size(struct.shape[0]) == 0 or rows_alike(layer, struct):
        return jax.ShapeDtypeStruct((1, *struct.shape[1:]), struct.dtype)
    if any(map(is_symbolic, struct.shape)):
        raise ValueError(
            "lipschitz_bound: the batch's length is a symbol here (jax.export), and the bound "
            "of layers that mix its rows, or do not do the same to each, depends on it; export "
            "with a fixed batch length."
        )
    return struct


def _inputs(
    layers: Sequence[Callable[[Array], Array]], struct: jax.ShapeDtypeStruct
) -> list[jax.ShapeDtypeStruct]:
    """What each layer takes."""
    found = []
    for index, layer in enumerate(layers):
        found.append(struct)
        after = _output(layer, struct, index)
        struct = jax.ShapeDtypeStruct(after.shape, after.dtype)
    return found


def _output(layer: Any, struct: jax.ShapeDtypeStruct, index: int) -> Any:
    try:
        found = jax.eval_shape(layer, struct)
    except Exception as error:  # of any framework: a module's own errors too
        raise ValueError(
            f"lipschitz_bound: layer {index} ({_name(layer)}) does not take a batch of shape "
            f"{struct.shape} and dtype {jnp.dtype(struct.dtype)} by itself: "
            f"{str(error).splitlines()[0]} A layer takes a batch of what the one before gives and "
            "changes no state: write jax.vmap(layer) around a layer of one example, "
            "jacreg.nnx.function(module) around a module with running statistics."
        ) from error
    if not hasattr(found, "shape"):
        raise ValueError(
            f"lipschitz_bound: layer {index} ({_name(layer)}) must return one array, got "
            f"{type(found).__name__}; write a function of a batch that returns the array alone, "
            "such as jacreg.nnx.function(module)."
        )
    return found


def _layer_bound(layer: Any, struct: jax.ShapeDtypeStruct, index: int) -> Array:
    program = read_program(layer, struct)
    steps = with_activations(program)
    dtype = accumulate_dtype(struct.dtype)
    try:
        with jax.enable_x64(True):  # says what is in the way before anything is computed
            linear = all(step.name in RULES for step in program.steps)
            if linear and fits(program):
                jax.eval_shape(lambda: gain_of(program, program.knowns, written_out=True))
            else:
                linear = False
                jax.eval_shape(lambda: _gain(steps, program, program.knowns))
        bare = program.without_knowns()
        bound = partial(written_out_bound, bare) if linear else partial(_gain, steps, bare)
        return in_double(bound, program.knowns, dtype)
    except InTheWay as error:
        raise ValueError(
            f"lipschitz_bound: layer {index} ({_name(layer)}) has no bound, for {error}."
        ) from None


def _gain(steps: Sequence[Step | Activation], program: Program, knowns: Sequence[Array]) -> Array:
    """The gain of a program, with activations of several operations taken as one."""
    values = Values(knowns)
    for step in steps:
        if isinstance(step, Activation):
            constant = step.constant(values.knowns)
            values.gains[step.out.index] = values.gain(step.argument) * constant
            continue
        if step.name not in TABLE:
            raise InTheWay(step, "no bound of this operation is known")
        gain = TABLE[step.name](step, values)
        values.gains.update((out.index, gain) for out in step.outs)
    return rounded_up(beside([values.gain(out) for out in program.outputs]), len(steps))


def _name(layer: Any) -> str:
    return getattr(layer, "__name__", type(layer).__name__)
