"""The Jacobian of a batch as one object that shares the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from ._convolution import with_products
from ._errors import DirectionError, note_mistake
from ._interpret import mentions
from ._structure import BatchStructure

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from ._typing import PyTree

Mode = Literal["both", "forward", "reverse"]
_MODES = ("both", "forward", "reverse")


class _Recipe:
    """What is static about a Linearization: the traced function and its trees.

    Compared by identity: two traces of one function are two recipes, as two
    results of `jax.linearize` are two functions.
    """

    def __init__(self, jaxpr: Any, out_tree: Any, has_aux: bool, mode: Mode) -> None:
        self.jaxpr = jaxpr
        self.out_tree = out_tree
        self.has_aux = has_aux
        self.mode: Mode = mode
        self._lacks_forward: bool | None = None

    @cached_property
    def convolves(self) -> bool:
        """Whether it has a convolution."""
        return mentions(self.jaxpr, "conv_general_dilated")

    def call(self, consts: list[Array], xs: PyTree, args: tuple[PyTree, ...]) -> Any:
        """Evaluate the traced function; `(ys, aux)` where it has an auxiliary output."""
        closed = jex.ClosedJaxpr(self.jaxpr, consts)
        outs = jex.jaxpr_as_fun(closed)(*jax.tree.leaves((xs, *args)))
        return jax.tree.unflatten(self.out_tree, outs)

    def lacks_forward(self, tangent_map: Callable[[PyTree], PyTree], xs: PyTree) -> bool:
        """Whether the tangents pass through a custom VJP, which only reverse mode can follow.

        JAX notices when such a tangent is evaluated, which inside a jitted loop is too
        late to take the other direction.
        """
        if self._lacks_forward is None:
            self._lacks_forward = mentions(self.jaxpr, "custom_vjp_call") and mentions(
                jax.make_jaxpr(tangent_map)(xs).jaxpr, "custom_lin"
            )
        return self._lacks_forward


@jax.tree_util.register_pytree_node_class
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
    """

    def __init__(
        self,
        value: PyTree,
        aux: PyTree,
        xs: PyTree,
        args: tuple[PyTree, ...],
        tangent_map: Callable[[PyTree], PyTree],
        consts: list[Array],
        recipe: _Recipe,
    ) -> None:
        self.value = value
        self.aux = aux
        self.xs = xs
        self.args = args
        self._tangent_map = tangent_map
        self._consts = consts
        self._recipe = recipe

    def tree_flatten(self) -> tuple[tuple[Any, ...], _Recipe]:
        """Children and static part, for JAX."""
        children = (self.value, self.aux, self.xs, self.args, self._tangent_map, self._consts)
        return children, self._recipe

    @classmethod
    def tree_unflatten(cls, recipe: _Recipe, children: tuple[Any, ...]) -> Linearization:
        """Inverse of `tree_flatten`, for JAX."""
        value, aux, xs, args, tangent_map, consts = children
        return cls(value, aux, xs, args, tangent_map, consts, recipe)

    @property
    def constants(self) -> list[Array]:
        """The arrays that the function closes over."""
        return self._consts

    def with_constants(self, constants: list[Array], args: tuple[PyTree, ...]) -> Linearization:
        """The function with others of equal shape in their place, for `evaluate` alone."""
        return Linearization(
            self.value, self.aux, self.xs, args, self._tangent_map, constants, self._recipe
        )

    @property
    def convolves(self) -> bool:
        """Whether the function has a convolution."""
        return self._recipe.convolves

    @property
    def tangent_map(self) -> Callable[[PyTree], PyTree]:
        """J v as JAX wrote it, to be read: `jvp` checks its argument and may run another form."""
        return self._tangent_map

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
        return self._recipe.mode

    def jvp(self, tangent: PyTree) -> PyTree:
        """Return J v, example by example: `[N, *in] -> [N, *out]`.

        Raises:
            ValueError: the tangent's structure or shape is not that of `xs`.
            DirectionError: (a TypeError) the function has no forward mode.
        """
        tangent = _conform(tangent, self.xs, "jvp", "tangent", "the inputs xs")
        try:
            if self._recipe.lacks_forward(self._tangent_map, self.xs):
                raise TypeError("it has a custom VJP")
            return with_products(self._tangent_map, self.xs)(tangent)
        except (TypeError, NotImplementedError) as error:
            raise DirectionError(
                f"jvp: this function has no forward-mode derivative ({_first_line(error)}). "
                'Use reverse mode: lin.vjp, Projection(mode="reverse"), or a method that '
                "needs only J^T u; or give the function a jax.custom_jvp rule instead of a "
                "custom_vjp one."
            ) from error

    def vjp(self, cotangent: PyTree) -> PyTree:
        """Return J^T u, example by example: `[N, *out] -> [N, *in]`.

        Raises:
            ValueError: the cotangent's structure or shape is not that of `value`.
            DirectionError: (a TypeError) the function has no reverse mode.
        """
        cotangent = _conform(cotangent, self.value, "vjp", "cotangent", "the value")
        try:
            transposed = jax.linear_transpose(with_products(self._tangent_map, self.xs), self.xs)
            (primal_cotangent,) = transposed(cotangent)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise DirectionError(
                f"vjp: this function has no reverse-mode derivative ({_first_line(error)}). "
                'Use forward mode: lin.jvp, Projection(mode="forward"), or a method that '
                "needs only J v; or replace lax.while_loop by lax.scan."
            ) from error
        return primal_cotangent

    def evaluate(self, xs: PyTree) -> PyTree:
        """Call the linearised function again at other inputs `[N, *in]`, same `args`.

        What it closed over (dropout keys, per-example conditions) is the same,
        so a finite difference against `value` is a difference of one function.
        """
        xs = _conform(xs, self.xs, "evaluate", "input", "the inputs xs")
        outs = self._recipe.call(self._consts, xs, self.args)
        return outs[0] if self._recipe.has_aux else outs

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
    xs = jax.tree.map(jnp.asarray, xs)
    args = tuple(jax.tree.map(jnp.asarray, arg) for arg in args)
    num_examples = _check_inputs(xs, args)
    try:
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(xs, *args)
    except Exception as error:
        note_mistake(error, jax.tree.leaves(xs))
        raise
    if has_aux and not (isinstance(shapes, tuple | list) and len(shapes) == 2):
        raise ValueError(
            "linearize: with has_aux=True the function must return (ys, aux), "
            f"got {type(shapes).__name__}."
        )
    ys_shape = shapes[0] if has_aux else shapes
    _check_outputs(ys_shape, num_examples)
    recipe = _Recipe(closed.jaxpr, jax.tree.structure(shapes), has_aux, mode)
    consts = list(closed.consts)

    def primal(xs: PyTree) -> Any:
        return recipe.call(consts, xs, args)

    if has_aux:
        value, tangent_map, aux = jax.linearize(primal, xs, has_aux=True)
    else:
        (value, tangent_map), aux = jax.linearize(primal, xs), None
    return Linearization(value, aux, xs, args, tangent_map, consts, recipe)


def _check_inputs(xs: PyTree, args: tuple[PyTree, ...]) -> int:
    leaves = jax.tree.leaves(xs)
    if not leaves:
        raise ValueError("linearize: xs holds no array; pass the batch [N, *in] to differentiate.")
    for x in leaves:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"linearize: xs must be floating point to have a Jacobian, got {x.dtype}; "
                "cast it (xs.astype(jnp.float32)) or pass it after xs as an argument that "
                "is not differentiated."
            )
        if x.ndim == 0:
            raise ValueError(
                "linearize: xs must have a batch axis [N, *in], got a scalar; use xs[None]."
            )
    sizes = {x.shape[0] for x in leaves}
    if len(sizes) > 1:
        raise ValueError(
            f"linearize: the leaves of xs must share the batch axis, got lengths {sorted(sizes)}."
        )
    (num_examples,) = sizes
    for number, arg in enumerate(args, start=1):
        for leaf in jax.tree.leaves(arg):
            if leaf.ndim and leaf.shape[0] != num_examples:
                raise ValueError(
                    f"linearize: argument {number} after xs has shape {leaf.shape}, but the "
                    f"batch has N={num_examples}. Arguments share the batch axis (or are "
                    "scalars); close over what does not: linearize(lambda x: fn(x, table), xs)."
                )
    return num_examples


def _check_outputs(ys: PyTree, num_examples: int) -> None:
    leaves = jax.tree.leaves(ys)
    if not leaves:
        raise ValueError("linearize: fn returned no array; it must return [N, *out].")
    for y in leaves:
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
        return leaf.astype(reference_leaf.dtype)

    return jax.tree.map(cast, tree, like)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
