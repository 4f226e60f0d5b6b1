"""A convolution whose derivatives of any order XLA:CPU has kernels for.

A penalty is differentiated once more, by the weights. What JAX writes for the derivative of J^T u
by a kernel has the image as its window, and where the image is larger than the result (strides,
no padding) XLA exchanges the two and is left with a reversed window, for which its CPU backend
has no kernel: 23 ms where the derivative of the convolution itself takes 1.5 (32 images 32 x 32,
3 x 3 kernel 16 to 16, stride 2). And in the body of a loop it has kernels for one layout alone.

A convolution is linear in its images x and in its kernel k, so with a cotangent u there are three
products: the result out(x, k), and by transposition images(k, u) and kernel(x, u). Each is linear
in both of its operands and transposes to the other two, so this primitive is closed under
differentiation. Its program is that of `conv_general_dilated` and of its first derivatives; on a
CPU, in the layout that has kernels and group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax.extend.source_info_util import user_context
from jax.interpreters import ad, batching, mlir

from ._banded_convolution import convolve_banded, is_banded
from ._canonical_convolution import run_with_canonical_convolutions
from ._convolution_spec import IMAGES, KERNEL, OPERANDS, OUT, Convolution
from ._grouped_convolution import convolve_in_groups
from ._interpret import HELD, JIT, bind, contains, interpret, interpret_inner
from ._sharding import is_spread

if TYPE_CHECKING:
    from jaxtyping import Array

    from ._typing import PyTree

    Function = Callable[[PyTree], PyTree]
    Wanted = Callable[[Any], bool]
    Instead = Callable[..., Array]

NAME = "jacreg_convolution"


def product(role: str, convolution: Convolution, *operands: Array) -> Array:
    """Return the product that has the shape of `role`, from the other two."""
    return _PRIMITIVE.bind(*operands, role=role, convolution=convolution)


def with_products(fn: Function, xs: PyTree) -> Function:
    """Return the same function of `xs` with such convolutions.

    On several devices `conv_general_dilated` says better what is split.
    """
    if is_spread(xs):
        return fn
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(xs)
    served = contains(closed.jaxpr, is_convolution)
    program = partial(run_with_products, closed) if served else jex.jaxpr_as_fun(closed)

    def run(given: PyTree) -> PyTree:
        return jax.tree.unflatten(jax.tree.structure(shapes), program(*jax.tree.leaves(given)))

    return run


def as_products(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function with such convolutions, traced where it is called."""
    return lambda *args: with_products(lambda given: fn(*given), args)(args)


def as_written(closed: Any) -> Any:
    """Return a program with `conv_general_dilated` for such convolutions, for who reads it."""
    if not contains(closed.jaxpr, _is_product):
        return closed
    defined = partial(_apply, _is_product, _defined)
    return jax.make_jaxpr(lambda *args: interpret(closed.jaxpr, closed.consts, args, defined))(
        *map(_struct, closed.in_avals)
    )


def _is_product(equation: Any) -> bool:
    return equation.primitive.name == NAME


def _defined(equation: Any, *operands: Array) -> Array:
    return _define(*operands, **equation.params)


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def convolve(equation: Any, images: Array, kernel: Array) -> Array:
    """Return what an equation of `conv_general_dilated` gives."""
    params = equation.params
    spread = max(params["lhs_dilation"], default=1) > 1
    if spread and max(params["window_strides"]) == 1 and params["batch_group_count"] == 1:
        return _convolve_spread(equation, images, kernel)
    return product(OUT, Convolution.of(equation), images, kernel)


def _convolve_spread(equation: Any, images: Array, kernel: Array) -> Array:
    """An image spread out is the second product of a strided convolution: read it as that."""

    def plain(images: Array) -> Array:
        return jax.lax.conv_general_dilated_p.bind(images, kernel, **equation.params)

    def strided(cotangent: Array) -> Array:
        return jax.linear_transpose(plain, images)(cotangent)[0]

    like = equation.outvars[0].aval
    like = jax.ShapeDtypeStruct(like.shape, like.dtype)
    closed = jax.make_jaxpr(strided)(like)
    (found,) = jax.linear_transpose(partial(run_with_products, closed), like)([images])
    return found


def run_with_products(closed: Any, *args: Array) -> list[Array]:
    """Evaluate a program with each of its convolutions as `convolve` has it.

    Those in a `while` loop, a branch or a derivative of their own stay as they are.
    """
    return interpret(closed.jaxpr, closed.consts, args, partial(_apply, is_convolution, convolve))


def evaluate(closed: Any, *args: Array) -> list[Array]:
    """Evaluate a traced function, convolutions in groups or in a `scan` as `convolve` has them.

    The gradient of a penalty by the weights goes through the forward pass too. What the others
    are there, XLA's kernels serve well.
    """
    if is_spread(args) or not contains(
        closed.jaxpr, lambda each: is_served(each) or _is_loop_of_convolutions(each)
    ):
        return jex.jaxpr_as_fun(closed)(*args)
    return interpret(closed.jaxpr, closed.consts, args, partial(_apply, is_served, convolve))


def evaluate_equation(equation: Any, operands: Sequence[Any]) -> list[Any]:
    """The same of one equation."""
    if is_spread(operands):
        return bind(equation, operands)
    return _apply(is_served, convolve, equation, operands)


def is_convolution(equation: Any) -> bool:
    """Whether this is a convolution as JAX writes it."""
    return equation.primitive.name == "conv_general_dilated"


def name_for_users(equation: Any) -> str:
    """The name of an operation, where this library's own stands for one of JAX the latter's."""
    name = equation.primitive.name
    return "conv_general_dilated" if name == NAME else name


def is_served(equation: Any) -> bool:
    """Whether this is a convolution that another form than XLA's serves better on a CPU."""
    if not is_convolution(equation):
        return False
    images, kernel = (each.aval for each in equation.invars)
    return is_grouped(equation) or is_banded(images, kernel, equation.params)


def is_grouped(equation: Any) -> bool:
    """Whether this is a convolution in groups."""
    return is_convolution(equation) and equation.params["feature_group_count"] > 1


def _is_loop_of_convolutions(equation: Any) -> bool:
    return equation.primitive.name == "scan" and contains(
        equation.params["jaxpr"].jaxpr, is_convolution
    )


# Programs that are run as a whole, and under which name they hold what they run.
_BODIES = {**HELD, "scan": "jaxpr"}


def _apply(wanted: Wanted, instead: Instead, equation: Any, operands: Sequence[Any]) -> list[Any]:
    """Evaluate an equation, with another operation where one is wanted, inside programs too."""
    name = equation.primitive.name
    if name in JIT:
        return interpret_inner(equation, operands, partial(_apply, wanted, instead))
    if wanted(equation):
        # What stands for it is said to stand where it stood.
        with user_context(equation.source_info.traceback):
            return [instead(equation, *operands)]
    inner = equation.params.get(_BODIES.get(name))
    wanted = is_convolution if name == "scan" and instead is convolve else wanted
    if inner is None or not contains(getattr(inner, "jaxpr", inner), wanted):
        return bind(equation, operands)
    closed = inner if hasattr(inner, "jaxpr") else jex.ClosedJaxpr(inner, ())
    apply = partial(_apply, wanted, instead)
    found = jax.make_jaxpr(lambda *args: interpret(closed.jaxpr, closed.consts, args, apply))(
        *map(_struct, closed.in_avals)
    )
    if found.consts:
        return bind(equation, operands)
    program = found if hasattr(inner, "jaxpr") else found.jaxpr
    return bind(equation, operands, **{_BODIES[name]: program})


def program_of(role: str, convolution: Convolution) -> Any:
    """Return the product's program in `conv_general_dilated`, for those who read programs."""
    operands = map(convolution.struct, OPERANDS[role])
    return jax.make_jaxpr(partial(_define, role=role, convolution=convolution))(*operands)


def _define(*operands: Array, role: str, convolution: Convolution) -> Array:
    """The product as `conv_general_dilated` and its transposes define it."""
    plain = partial(jax.lax.conv_general_dilated_p.bind, **dict(convolution.params))
    return _derive(plain, role, convolution, *operands)


def _run_on_cpu(*operands: Array, role: str, convolution: Convolution) -> Array:
    """The same, of convolutions that XLA:CPU has kernels for."""
    params, structs = dict(convolution.params), map(convolution.struct, OPERANDS[role])
    if is_banded(convolution.struct(IMAGES), convolution.struct(KERNEL), params):
        return _derive(partial(convolve_banded, params=params), role, convolution, *operands)
    plain = partial(convolve_in_groups, params=params)
    program = jax.make_jaxpr(partial(_derive, plain, role, convolution))(*structs)
    if contains(program.jaxpr, is_convolution) or 0 in operands[0].shape:
        return run_with_canonical_convolutions(program, *operands)[0]
    return _apart(jex.jaxpr_as_fun(program), *operands)[0]


def _apart(by_taps: Callable[..., list[Array]], *operands: Array) -> list[Array]:
    """A sum over taps that XLA does not join with what reads it, nor with what it reads.

    It would compute the sum anew for each entry of an array that it is broadcast to, and what is
    summed anew for each tap: 24 ms in place of 1.3 (600 images 12 x 12 of 16 channels, squared). A
    branch keeps them apart where a barrier is gone before XLA joins operations; which one is taken
    is known to nobody before, and both are the same.
    """
    first = operands[0].reshape(-1)[0]
    return jax.lax.cond(first == first, by_taps, by_taps, *operands)


def _derive(
    convolve: Callable[[Array, Array], Array],
    role: str,
    convolution: Convolution,
    *operands: Array,
) -> Array:
    """A product, given what convolves."""
    if role == OUT:
        return convolve(*operands)
    given, cotangent = operands
    struct = convolution.struct(role)
    if role == IMAGES:
        transposed = jax.linear_transpose(lambda images: convolve(images, given), struct)
    else:
        transposed = jax.linear_transpose(lambda kernel: convolve(given, kernel), struct)
    return transposed(cotangent)[0]


def _abstract(*operands: Any, role: str, convolution: Convolution) -> Any:
    return jax.core.ShapedArray(*getattr(convolution, role))  # pyright: ignore[reportAttributeAccessIssue]


def _transposed(which: int, cotangent: Any, *operands: Any, role: str, convolution: Any) -> Any:
    """The cotangent of one operand: the product of the other with that of the result."""
    known = {role: cotangent, OPERANDS[role][1 - which]: operands[1 - which]}
    wanted = OPERANDS[role][which]
    return product(wanted, convolution, *(known[each] for each in OPERANDS[wanted]))


def _batched(
    operands: Sequence[Array], axes: Sequence[int | None], *, role: str, convolution: Convolution
) -> tuple[Array, int]:
    """Examples of a batch join those of the convolution, where the kernel is no batch."""
    batched = [name for name, axis in zip(OPERANDS[role], axes, strict=True) if axis is not None]
    if batched in ([IMAGES], [OUT]) and role != KERNEL:
        place, joined = convolution.batch_axis(batched[0]), convolution.batch_axis(role)
        if place is not None and joined is not None:
            which = OPERANDS[role].index(batched[0])
            (axis,) = (axis for axis in axes if axis is not None)
            array = jnp.moveaxis(operands[which], axis, place + 1)
            count = array.shape[place + 1]
            array = array.reshape(
                (*array.shape[:place], array.shape[place] * count, *array.shape[place + 2 :])
            )
            whole = [array if i == which else each for i, each in enumerate(operands)]
            found = product(
                role, convolution.with_examples(convolution.num_examples * count), *whole
            )
            shape = (
                *found.shape[:joined],
                convolution.num_examples,
                count,
                *found.shape[joined + 1 :],
            )
            return found.reshape(shape), joined + 1
    return _in_groups(operands, axes, role, convolution), 0


def _in_groups(
    operands: Sequence[Array], axes: Sequence[int | None], role: str, convolution: Convolution
) -> Array:
    """A batch of kernels: JAX makes one convolution in groups of it, whose products are ours."""
    count = next(o.shape[a] for o, a in zip(operands, axes, strict=True) if a is not None)
    given = dict(zip(OPERANDS[role], zip(operands, axes, strict=True), strict=True))

    def outs(images: Array, kernel: Array, in_axes: tuple[int | None, int | None]) -> Array:
        whole = jax.vmap(partial(_define, role=OUT, convolution=convolution), in_axes)
        return run_with_products(jax.make_jaxpr(whole)(images, kernel), images, kernel)[0]

    if role == OUT:
        (images, first), (kernel, second) = given[IMAGES], given[KERNEL]
        return outs(images, kernel, (first, second))
    cotangent, axis = given[OUT]
    cotangents = (
        jnp.broadcast_to(cotangent, (count, *cotangent.shape))
        if axis is None
        else jnp.moveaxis(cotangent, axis, 0)
    )
    struct = convolution.struct(role)
    like = jax.ShapeDtypeStruct((count, *struct.shape), struct.dtype)
    if role == IMAGES:
        kernel, axis = given[KERNEL]
        transposed = jax.linear_transpose(lambda images: outs(images, kernel, (0, axis)), like)
    else:
        images, axis = given[IMAGES]
        transposed = jax.linear_transpose(lambda kernels: outs(images, kernels, (axis, 0)), like)
    return transposed(cotangents)[0]


def _run(*operands: Array, role: str, convolution: Convolution) -> Array:
    """Compile one operation and run it, under `disable_jit` too, as JAX does with its own."""
    with jax.disable_jit(False):
        return _COMPILED(*operands, role=role, convolution=convolution)


_PRIMITIVE = jex.Primitive(NAME)
_COMPILED = jax.jit(_PRIMITIVE.bind, static_argnames=("role", "convolution"))
_PRIMITIVE.def_impl(_run)
_PRIMITIVE.def_abstract_eval(_abstract)
ad.defbilinear(_PRIMITIVE, partial(_transposed, 0), partial(_transposed, 1))
batching.primitive_batchers[_PRIMITIVE] = _batched
# Which platform a program is for is known when it is lowered, not when it is traced.
mlir.register_lowering(_PRIMITIVE, mlir.lower_fun(_define, multiple_results=False))
mlir.register_lowering(
    _PRIMITIVE, mlir.lower_fun(_run_on_cpu, multiple_results=False), platform="cpu"
)
