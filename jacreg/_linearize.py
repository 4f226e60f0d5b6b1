"""The Jacobian of a batch as one object that shares the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from ._convolution import as_written, evaluate, with_products
from ._errors import DirectionError, note_mistake
from ._guard import has_pole, with_finite_factors, with_own_conditions
from ._inputs import as_argument, as_input, check_inputs, check_no_numbers, note_flag
from ._program import FORWARD, REVERSE, Directions, Program
from ._sharding import match_varying
from ._structure import BatchStructure

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree

Mode = Literal["both", "forward", "reverse"]
_MODES = ("both", "forward", "reverse")


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True, eq=False, repr=False)
class Linearization:
    """A batch of Jacobians: `value [N, *out]`, `jvp` and `vjp`, one forward pass.

    Made by `linearize`. It is a pytree, so it may be returned from or passed
    to a jitted function, mapped and differentiated through. Everything in
    jacreg that needs a Jacobian takes one.

    Attributes:
        value: `[N, *out]` (or a pytree of such), what the function returned.
        aux: what the function returned beside it, None without `has_aux`.
        xs: `[N, *in]` (or a pytree of such), where the function was linearised.
        args: the inputs that share the batch axis and are not differentiated.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> lin.value, lin.jvp(jnp.array([[1.0, 0.0, 0.0]]))
        (Array([[1., 4., 9.]], dtype=float32), Array([[2., 0., 0.]], dtype=float32))
    """

    value: PyTree
    aux: PyTree
    xs: PyTree
    args: tuple[PyTree, ...]
    # What the function closes over (parameters, tables, keys), what the derivative keeps of the
    # forward pass, and the traced function and its derivative without any array.
    constants: tuple[Array, ...]
    residuals: tuple[Array, ...]
    program: Program

    def tree_flatten(self) -> tuple[tuple[Any, ...], Program]:
        """Children and static part, for JAX."""
        children = (self.value, self.aux, self.xs, self.args, self.constants, self.residuals)
        return children, self.program

    @classmethod
    def tree_unflatten(cls, program: Program, children: tuple[Any, ...]) -> Linearization:
        """Inverse of `tree_flatten`, for JAX."""
        value, aux, xs, args, constants, residuals = children
        return cls(value, aux, xs, args, constants, residuals, program)

    def with_constants(self, constants: Sequence[Array], args: tuple[PyTree, ...]) -> Linearization:
        """The function with others of equal shape in their place, for `evaluate` alone."""
        return replace(self, args=args, constants=tuple(constants))

    @property
    def stays_alone(self) -> bool:
        """Whether a product leaves JAX (a check that may raise, say), or `jax.vmap` has no rule."""
        return self.program.stays_alone(self.xs, self.value, self.residuals)

    @property
    def convolves(self) -> bool:
        """Whether the function has a convolution."""
        return self.program.convolves

    @property
    def directions(self) -> Directions:
        """Which of "forward" (`jvp`) and "reverse" (`vjp`) exist, read from the program."""
        found = ((FORWARD, self.no_forward), (REVERSE, self.no_reverse))
        return Directions(name for name, missing in found if missing is None)

    @property
    def no_forward(self) -> str | None:
        """Why there is no `jvp`, None where there is."""
        return self.program.no_forward

    @property
    def no_reverse(self) -> str | None:
        """Why there is no `vjp`, None where there is."""
        return self.program.no_reverse(self.xs, self.value, self.residuals)

    def tangent_map(self, tangent: PyTree) -> PyTree:
        """J v as JAX wrote it, to be read: `jvp` checks its argument and may run another form."""
        return self.program.tangent(self.residuals, tangent, self.value)

    @property
    def num_examples(self) -> int:
        """N, the length of the batch axis."""
        return jax.tree.leaves(self.xs)[0].shape[0]

    @property
    def inputs(self) -> BatchStructure:
        """Shapes and dtypes of `xs` without the batch axis."""
        return BatchStructure.of(self.xs)

    @property
    def outputs(self) -> BatchStructure:
        """Shapes and dtypes of `value` without the batch axis."""
        return BatchStructure.of(self.value)

    @property
    def mode(self) -> Mode:
        """The direction that the caller means to use: a hint for exact methods."""
        return self.program.mode

    def jvp(self, tangent: PyTree) -> PyTree:
        """Return J v, example by example: `[N, *in] -> [N, *out]`.

        Raises:
            ValueError: the tangent's structure or shape is not that of `xs`.
            DirectionError: (a TypeError) the function has no forward mode.
        """
        tangent = _conform(tangent, self.xs, "jvp", "tangent", "the inputs xs")
        if self.no_forward is not None:
            raise DirectionError(
                f"jvp: this function has no forward-mode derivative ({self.no_forward}). "
                'Use reverse mode: lin.vjp, Projection(mode="reverse"), or a method that '
                "needs only J^T u; or give the function a jax.custom_jvp rule instead of a "
                "custom_vjp one."
            )
        return with_products(self.tangent_map, self.xs)(tangent)

    def vjp(self, cotangent: PyTree) -> PyTree:
        """Return J^T u, example by example: `[N, *out] -> [N, *in]`.

        Raises:
            ValueError: the cotangent's structure or shape is not that of `value`.
            DirectionError: (a TypeError) the function has no reverse mode.
        """
        cotangent = _conform(cotangent, self.value, "vjp", "cotangent", "the value")
        if self.no_reverse is not None:
            raise DirectionError(
                f"vjp: this function has no reverse-mode derivative ({self.no_reverse}). "
                'Use forward mode: lin.jvp, Projection(mode="forward"), or a method that '
                "needs only J v; or replace lax.while_loop by lax.scan."
            )
        transposed = jax.linear_transpose(with_products(self.tangent_map, self.xs), self.xs)
        (primal_cotangent,) = transposed(cotangent)
        return primal_cotangent

    def evaluate(self, xs: PyTree) -> PyTree:
        """Call the linearised function again at other inputs `[N, *in]`, same `args`.

        What it closed over (dropout keys, per-example conditions) is the same,
        so a finite difference against `value` is a difference of one function.
        """
        xs = _conform(xs, self.xs, "evaluate", "input", "the inputs xs")
        closed = self.program.closed(self.constants)
        return self.program.returned(evaluate(closed, *jax.tree.leaves((xs, *self.args))))

    def __repr__(self) -> str:
        try:
            shown = (
                f"J: {self.inputs.describe()} -> {self.outputs.describe()}, "
                f"N={self.num_examples}, mode={self.mode!r}"
            )
        except (AttributeError, IndexError, TypeError):
            # JAX fills pytrees with placeholders that have no shape.
            return "Linearization(<abstract>)"
        aux = "" if self.aux is None else ", with aux"
        return f"Linearization({shown}{aux}; .value, .jvp(v) = J v, .vjp(u) = J^T u)"


def linearize(
    fn: Callable[..., Any],
    xs: Float[Array, "N *in"],
    *args: PyTree,
    has_aux: bool = False,
    mode: Mode = "both",
) -> Linearization:
    """Evaluate `fn` on a batch and keep its Jacobian as a linear map, from one forward pass.

    `jax.linearize` gives J v and `jax.linear_transpose` of it J^T u; the
    forward pass is not repeated, so `value` serves the task's loss too.
    Nothing is jitted here: call it inside your own jitted step.

    Args:
        fn: `[N, *in] -> [N, *out]`; row n of the output depends on row n of the
            input alone (`rows_independent` checks). A per-example function `f`
            is `jax.vmap(f)`. Inputs and outputs may be pytrees of such arrays.
        xs: `[N, *in]`, floating point.
        *args: further inputs of `fn` that share the batch axis and are not
            differentiated: time, label, condition. A scalar is shared by all.
        has_aux: `fn` returns `(ys, aux)`; `aux` is kept undifferentiated.
        mode: a hint which direction will be used; exact methods prefer it.

    Returns:
        A `Linearization` with `value`, `aux`, `jvp`, `vjp`.

    Raises:
        TypeError: `xs` or the output is not floating point, or `fn` is no function.
        ValueError: `xs` or the output has no batch axis, or they disagree on N.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: jnp.sin(xs).sum(axis=1), jnp.zeros((4, 3)))
        >>> lin.value.shape, lin.vjp(jnp.ones(4)).shape
        ((4,), (4, 3))
    """
    if not callable(fn):
        raise TypeError(
            f"linearize: fn must be a function of a batch, got {type(fn).__name__}. "
            "Wrap a module with jacreg.nnx.function, jacreg.linen.function or jacreg.eqx.function."
        )
    if mode not in _MODES:
        raise ValueError(f"linearize: mode must be one of {_MODES}, got {mode!r}.")
    given = args
    check_no_numbers("linearize", xs)
    xs = jax.tree.map(as_input, xs)
    args = tuple(
        jax.tree.map(partial(as_argument, number), arg) for number, arg in enumerate(args, start=1)
    )
    num_examples = check_inputs(xs, args)
    try:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(xs, *args)
    except Exception as error:
        if not note_flag(error, given):
            note_mistake(error, xs, fn)
        raise
    if has_aux and not (isinstance(shapes, tuple | list) and len(shapes) == 2):
        raise ValueError(
            "linearize: with has_aux=True the function must return (ys, aux), "
            f"got {type(shapes).__name__}."
        )
    read = as_written(closed)
    ys_shape = shapes[0] if has_aux else shapes
    _check_outputs(ys_shape, num_examples)
    out_tree, consts = jax.tree.structure(shapes), tuple(read.consts)
    differentiated = with_own_conditions(closed)

    def primal(xs: PyTree) -> Any:
        outs = evaluate(differentiated, *jax.tree.leaves((xs, *args)))
        return jax.tree.unflatten(out_tree, outs)

    value, aux, tangent_map = _differentiated(primal, xs, has_aux)
    written = as_written(jax.make_jaxpr(tangent_map)(xs))
    linear = with_finite_factors(written, jax.tree.leaves(xs))
    left_out = linear is not written and has_pole(read.jaxpr)
    program = Program(read.jaxpr, linear.jaxpr, out_tree, has_aux, mode, left_out)
    return Linearization(value, aux, xs, args, consts, tuple(linear.consts), program)


def check_linearization(who: str, lin: Any, name: str = "lin") -> None:
    """Raise a TypeError unless `lin` came from `linearize`."""
    if not isinstance(lin, Linearization):
        raise TypeError(
            f"{who}: {name} must be a Linearization, got {type(lin).__name__}; make one with "
            "jacreg.linearize(fn, xs)."
        )


def _differentiated(
    primal: Callable[[PyTree], Any], xs: PyTree, has_aux: bool
) -> tuple[PyTree, PyTree, Callable[[PyTree], PyTree]]:
    """Value, auxiliary output and J v, from one forward pass where JAX can."""
    try:
        if has_aux:
            value, tangent_map, aux = jax.linearize(primal, xs, has_aux=True)
        else:
            (value, tangent_map), aux = jax.linearize(primal, xs), None
        return value, aux, tangent_map
    except ValueError as error:
        # Some operations have a forward derivative whose value JAX cannot split off.
        if "known values" not in str(error):
            raise

    def differentiate(tangent: PyTree) -> PyTree:
        return jax.jvp(lambda xs: primal(xs)[0] if has_aux else primal(xs), (xs,), (tangent,))[1]

    value, aux = primal(xs) if has_aux else (primal(xs), None)
    return value, aux, differentiate


def _check_outputs(ys: PyTree, num_examples: int) -> None:
    leaves = jax.tree.leaves(ys)
    if not leaves:
        raise ValueError("linearize: fn returned no array; it must return [N, *out].")
    for y in leaves:
        if jnp.issubdtype(y.dtype, jnp.complexfloating):
            raise TypeError(
                f"linearize: fn must return real values, got {y.dtype}; return the real and the "
                "imaginary part as two outputs, (y.real, y.imag)."
            )
        if not jnp.issubdtype(y.dtype, jnp.floating):
            raise TypeError(
                f"linearize: fn must return floating-point values, got {y.dtype}; return logits "
                "rather than labels, and move what has no derivative into aux (has_aux=True)."
            )
        if y.ndim == 0 or y.shape[0] != num_examples:
            raise ValueError(
                f"linearize: fn must keep the batch axis: xs has N={num_examples}, the output "
                f"has shape {tuple(y.shape)}. Return one row an example, not a sum or a mean; a "
                "per-example function is jax.vmap(fn)."
            )


def _conform(tree: PyTree, like: PyTree, who: str, what: str, reference: str) -> PyTree:
    """Check a tangent or cotangent against what it must resemble, and cast it."""
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise ValueError(
            f"{who}: the {what} must have the tree structure of {reference}, "
            f"{jax.tree.structure(like)}, got {jax.tree.structure(tree)}."
        )

    def cast(leaf: Any, reference_leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        if leaf.shape != reference_leaf.shape:
            raise ValueError(
                f"{who}: the {what} must have the shape of {reference}, "
                f"{tuple(reference_leaf.shape)}, got {tuple(leaf.shape)}."
            )
        return match_varying(leaf.astype(reference_leaf.dtype), reference_leaf)

    return jax.tree.map(cast, tree, like)
