"""A linear map of a batch on many vectors an example, examples first.

`jax.vmap` over the vectors puts them before the examples: the result has to be transposed, and
a basis, the same for every example, is multiplied once for each of them. Here the program of the
product is run with the vectors beside their example, `[N, k, ...]`, and what all examples still
share stays one row until an example's own numbers meet it. A matrix product, an elementwise
operation, a reshaping and a convolution have a rule; whatever else is vmapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from ._convolution import NAME, product
from ._convolution_spec import KERNEL, OPERANDS
from ._interpret import JIT, bind, interpret, interpret_inner

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# Elementwise, so that vectors and examples may be anywhere as long as all agree.
_ELEMENTWISE = frozenset(
    {"add", "add_any", "convert_element_type", "copy", "div", "mul", "neg", "select_n", "sub"}
)


class _Beside(NamedTuple):
    """`[d, k, ...]`, what one axis d of an array becomes with k vectors; the others follow.

    `jax.vmap` of a function of one example leaves the examples behind the features of a product
    of a matrix and a vector.

    Attributes:
        array: d, the vectors, then the other axes in their order.
        shared: d, the examples, is kept as 1.
        place: of d in the array of one vector.
    """

    array: Array
    shared: bool
    place: int = 0

    def axis(self, own: int) -> int:
        """Where an axis of the array of one vector stands."""
        return 0 if own == self.place else own + 1 + (own < self.place)

    def in_order(self) -> _Beside:
        """The same with the first axis as d."""
        if not self.place:
            return self
        array = jnp.moveaxis(jnp.moveaxis(self.array, 0, self.place + 1), 0, 1)
        return _Beside(array, False)


def all_basis_products(
    product: Callable[[Float[Array, "N s"]], Float[Array, "N m"]],
    shape: tuple[int, int],
    dtype: Any,
    chunk: int,
) -> Float[Array, "N s m"]:
    """`product(e_i)` for every basis vector, `chunk` at a time, each written into its place.

    Several chunks are rematerialised under reverse-mode differentiation, as `map_chunked` does.
    """
    count = shape[1]
    if chunk >= count:
        return basis_products(product, shape, dtype, jnp.arange(count))

    @jax.checkpoint
    def block(indices: Int[Array, " k"]) -> Float[Array, "N k m"]:
        return basis_products(product, shape, dtype, indices)

    def write(whole: Array, start: Array) -> tuple[Array, None]:
        found = block(start + jnp.arange(chunk))
        return jax.lax.dynamic_update_slice_in_dim(whole, found, start, axis=1), None

    chunk = _even(count, chunk)
    full = count // chunk * chunk
    # The first block gives the result its place on the devices.
    whole = jnp.pad(block(jnp.arange(chunk)), ((0, 0), (0, count - chunk), (0, 0)))
    if full > chunk:
        whole, _ = jax.lax.scan(write, whole, jnp.arange(chunk, full, chunk))
    if full == count:
        return whole
    rest = block(jnp.arange(full, count))
    return jax.lax.dynamic_update_slice_in_dim(whole, rest, full, axis=1)


def reduce_basis_products(
    product: Callable[[Float[Array, "N s"]], Float[Array, "N m"]],
    shape: tuple[int, int],
    dtype: Any,
    chunk: int,
    reduce: Callable[[Float[Array, "N k m"], Int[Array, " k"]], Float[Array, "N r"]],
) -> Float[Array, "N rs"]:
    """What `reduce(products, indices)` makes of every chunk, one beside the other.

    As `all_basis_products`, for what needs no product as a whole.
    """
    count = shape[1]

    def block(indices: Int[Array, " k"]) -> Float[Array, "N r"]:
        return reduce(basis_products(product, shape, dtype, indices), indices)

    if chunk >= count:
        return block(jnp.arange(count))
    block = jax.checkpoint(block)
    chunk = _even(count, chunk)
    full = count // chunk * chunk
    parts = jax.lax.map(block, jnp.arange(full).reshape(-1, chunk))
    parts = jnp.moveaxis(parts, 0, 1).reshape((shape[0], -1))
    if full == count:
        return parts
    return jnp.concatenate([parts, block(jnp.arange(full, count))], axis=1)


def _even(count: int, most: int) -> int:
    """Vectors at once, so that a shorter last chunk, which is compiled apart, is seldom needed."""
    even = max(length for length in range(1, most + 1) if count % length == 0)
    return even if 2 * even > most else -(-count // -(-count // most))


def basis_products(
    product: Callable[[Float[Array, "N s"]], Float[Array, "N m"]],
    shape: tuple[int, int],
    dtype: Any,
    indices: Int[Array, " k"],
) -> Float[Array, "N k m"]:
    """`product(e_i)` for the basis vectors e_i of each index, for every example.

    Args:
        product: linear, row n of the result from row n of the argument.
        shape, dtype: `(N, s)`, of the argument.
        indices: which basis vectors.
    """
    examples, size = shape
    vector = jax.ShapeDtypeStruct(shape, dtype)
    closed = jax.make_jaxpr(product)(vector)
    basis = (jnp.arange(size)[None] == indices[:, None]).astype(dtype)
    start = _Beside(basis[None], True)
    (found,) = interpret(closed.jaxpr, closed.consts, [start], partial(_apply, examples))
    if isinstance(found, _Beside):
        return _whole(found, examples)
    # Independent of the vector: zero.
    return jnp.broadcast_to(found[:, None], (examples, indices.shape[0], *found.shape[1:]))


def _apply(examples: int, equation: Any, operands: Sequence[Any]) -> list[Any]:
    name = equation.primitive.name
    if name in JIT:
        return interpret_inner(equation, operands, partial(_apply, examples))
    if not any(isinstance(each, _Beside) for each in operands):
        return bind(equation, operands)
    outs = _by_rule(name, equation, operands)
    return _by_vmap(equation, operands, examples) if outs is None else outs


def _by_rule(name: str, equation: Any, operands: Sequence[Any]) -> list[Any] | None:
    """The outputs with vectors beside examples, or None where no rule fits."""
    first, params = operands[0], equation.params
    if name in _ELEMENTWISE:
        return _elementwise(equation, operands)
    if name == NAME:
        return _convolution(equation, operands)
    if name == "dot_general":
        return _matrix_product(equation, operands)
    if not isinstance(first, _Beside) or any(isinstance(o, _Beside) for o in operands[1:]):
        return None
    array, shared, place = first
    out = equation.outvars[0].aval
    if name == "transpose":
        order = list(params["permutation"])
        new = order.index(place)
        axes = [first.axis(own) for own in order if own != place]
        return [_Beside(jnp.transpose(array, (0, 1, *axes)), shared, new)]
    if name == "reduce_sum":
        axes = params["axes"]
        if place in axes:
            return None
        new = place - sum(own < place for own in axes)
        return [_Beside(array.sum([first.axis(own) for own in axes]), shared, new)]
    if place:
        return None
    if name == "reshape":
        (rows,) = equation.invars[0].aval.shape[:1] or (0,)
        if params["dimensions"] is not None or not out.shape or out.shape[0] != rows:
            return None
        return [_Beside(array.reshape((*array.shape[:2], *out.shape[1:])), shared)]
    if name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        if numbers.lhs_spec[0] or numbers.out_spec[0] or params["batch_group_count"] != 1:
            return None
        # The vectors join the examples on the batch axis.
        merged = array.reshape((array.shape[0] * array.shape[1], *array.shape[2:]))
        found = bind(equation, [merged, operands[1]])[0]
        return [_Beside(found.reshape((*array.shape[:2], *found.shape[1:])), shared)]
    return None


def _matrix_product(equation: Any, operands: Sequence[Any]) -> list[Any] | None:
    """Of the vectors' array, on either side, and one without vectors."""
    beside = [isinstance(each, _Beside) for each in operands]
    contracted, batch = equation.params["dimension_numbers"]
    side = beside.index(True)
    first, other = operands[side], operands[1 - side]
    if all(beside) or batch[0] or first.place in contracted[side]:
        return None
    axes = tuple(first.axis(own) for own in contracted[side])
    numbers = ((axes, tuple(contracted[1 - side])), ((), ()))
    found = bind(equation, [first.array, other], dimension_numbers=numbers)[0]
    before = first.place - sum(own < first.place for own in contracted[side])
    if side == 0:
        return [_Beside(found, first.shared, before)]
    # The other's axes come first in the program's order; here they came last.
    count = other.ndim - len(contracted[0])
    found = jnp.moveaxis(found, range(-count, 0), range(2, 2 + count)) if count else found
    return [_Beside(found, first.shared, before + count)]


def _convolution(equation: Any, operands: Sequence[Any]) -> list[Any] | None:
    """The vectors join the examples on the batch axis, as with `conv_general_dilated`."""
    role, convolution = equation.params["role"], equation.params["convolution"]
    beside = [o.array.shape if isinstance(o, _Beside) else None for o in operands]
    (which, shape), *others = [(i, shape) for i, shape in enumerate(beside) if shape is not None]
    given = OPERANDS[role][which]
    if others or KERNEL in (role, given) or operands[which].place:
        return None
    if convolution.batch_axis(given) != 0 or convolution.batch_axis(role) != 0:
        return None
    shared = operands[which].shared
    whole = operands[which].array.reshape((shape[0] * shape[1], *shape[2:]))
    arrays = [whole if i == which else each for i, each in enumerate(operands)]
    convolution = convolution.with_examples(shape[0] * shape[1])
    found = product(role, convolution, *arrays)
    return [_Beside(found.reshape((*shape[:2], *found.shape[1:])), shared)]


def _elementwise(equation: Any, operands: Sequence[Any]) -> list[Any] | None:
    beside = [isinstance(each, _Beside) for each in operands]
    if any(b and not v.aval.shape for b, v in zip(beside, equation.invars, strict=True)):
        return None
    places = {each.place for b, each in zip(beside, operands, strict=True) if b}
    if len(places) > 1:
        return None
    (place,) = places
    own = any(not b and jnp.ndim(each) for b, each in zip(beside, operands, strict=True))
    shared = not own and all(each.shared for b, each in zip(beside, operands, strict=True) if b)
    arrays = []
    for b, each in zip(beside, operands, strict=True):
        array = each.array if b else jnp.asarray(each)
        if not b and array.ndim:
            array = jnp.expand_dims(jnp.moveaxis(array, place, 0), 1)
        arrays.append(array)
    # Arithmetic in a program broadcasts axes of size one, the first one too.
    shape = jnp.broadcast_shapes(*(array.shape for array in arrays))
    shape = shape if shared else (equation.outvars[0].aval.shape[place], *shape[1:])
    arrays = [jnp.broadcast_to(array, shape) if array.ndim else array for array in arrays]
    return [_Beside(bind(equation, arrays)[0], shared, place)]


def _by_vmap(equation: Any, operands: Sequence[Any], examples: int) -> list[Any]:
    arrays, axes = [], []
    for each in operands:
        beside = isinstance(each, _Beside)
        array = _whole(each, examples) if beside else each
        arrays.append(array)
        axes.append(min(1, array.ndim - 1) if beside else None)
    out_axes = [min(1, len(v.aval.shape)) for v in equation.outvars]
    outs = jax.vmap(lambda *each: bind(equation, each), in_axes=axes, out_axes=out_axes)(*arrays)
    return [_Beside(array, False) for array in outs]


def _whole(value: _Beside, examples: int) -> Array:
    """`[d, k, ...]` with the first axis of one vector's array as d."""
    array = value.array
    if value.shared:
        array = jnp.broadcast_to(array, (examples, *array.shape[1:]))
    return _Beside(array, False, value.place).in_order().array
