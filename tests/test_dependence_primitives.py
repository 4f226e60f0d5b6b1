"""Every primitive of the installed JAX has a rule of dependence, or a reason for none."""

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives
from jax.interpreters import ad

import jacreg
from jacreg._coloring._reading import dependence_of
from jacreg._dependence._operand import rule_of

pytestmark = pytest.mark.usefixtures("x64")

# Reasons for none, and the names of the primitives.
_REASONS = {
    "its derivative is written in other operations; a Laplacian follows its rule": """
        ceil floor igamma_grad_a nextafter polynomial round scatter-max
        scatter-min sign approx_top_k zeta random_gamma cholesky cholesky_update eig eigh
        hessenberg householder_product lu ormqr qr schur svd symmetric_product tridiagonal""",
    "integers, keys or tokens: no tangent passes": """
        after_all and argmax argmin axis_index bitcast_convert_type clz create_token debug_callback
        debug_print empty2 eq eq_to ge gt iota is_finite le le_to lt lt_to mulhi ne not or
        population_count random_bits random_fold_in random_seed random_split reduce_and reduce_or
        reduce_xor rng_bit_generator rng_uniform shift_left shift_right_arithmetic
        shift_right_logical threefry2x32 xor threefry_seed threefry_split threefry_fold_in
        lu_pivots_to_permutation from_edtype to_edtype random_wrap random_unwrap debug_nans infeed
        outfeed stop_gradient""",
    "opened by differentiation, or dense: what it calls is a function, not a program": """
        custom_vjp_call custom_lin composite linear_call call stage remat_opt tie
        dce_sink""",
    "dense: a part of the batch on each device is not followed through a shard_map": """
        all_gather all_gather_invariant all_gather_reduced all_to_all pbroadcast pmax pmin
        ppermute preduced psum psum_invariant psum_scatter ragged_all_to_all reduce_scatter
        reduced_vary_cast_p shard_map unreduced_psum unreduced_reduce_scatter
        vary_unreduced_cast_p collective_permute pbroadcast_dynamic reduced_vary_cast
        vary_unreduced_cast
        global_array_to_host_local_array host_local_array_to_global_array""",
    "dense: state, or code that is not there to be read": """
        box_get box_set get swap log_extend log_read new_box new_log addupdate ffi_call
        io_callback pure_callback""",
    "dense: any function of entries; what JAX itself writes has names of its own": """
        reduce reduce_window select_and_scatter""",
    "dense: the sizes of the groups are values": "ragged_dot_general",
}
REASONS = {name: reason for reason, names in _REASONS.items() for name in names.split()}


def is_of_jax(rule):
    """JAX itself: no experiment of its own and no other package, which add theirs when imported."""
    module = getattr(rule, "func", rule).__module__
    return module.startswith("jax._src.") and "pallas" not in module


def installed():
    names = {
        getattr(module, name).name
        for module in (lax, primitives, lax.linalg)
        for name in dir(module)
        if name.endswith("_p") and hasattr(getattr(module, name), "name")
    }
    # Whatever JAX can transpose is linear, so may stand in a linear program.
    return names | {p.name for p, rule in ad.primitive_transposes.items() if is_of_jax(rule)}


def test_every_primitive_has_a_rule_or_a_reason():
    unknown = {name for name in installed() - set(REASONS) if rule_of(name) is None}
    assert not unknown, "write a rule in jacreg/_dependence, or a reason here"
    assert len(installed()) > 100


def test_no_reason_beside_a_rule():
    assert not [name for name in REASONS if rule_of(name) is not None]


SHAPE = (2, 6, 4)


def unpacked(xs):
    first, second, *_ = jnp.unstack(jnp.sin(xs), axis=2)
    return jnp.stack([first, first * second, second], axis=1)


@jax.custom_jvp
def times(count, xs):
    """A function with a rule, of an integer too, whose tangent is no number."""
    return count * xs


times.defjvp(lambda primals, tangents: (times(*primals), primals[0] * tangents[1]))


# A function, and whether the pattern is exact.
NEW_RULES = {
    "stack": lambda xs: jnp.stack([xs, jnp.roll(xs, 1, 1), xs**2], axis=2).sum(3),
    "stack first": lambda xs: (jnp.stack([xs, 2 * xs], axis=0) * xs).sum(0),
    "unstack": unpacked,
    "unpacked in Python": lambda xs: jnp.stack(
        [a * b for a, b in zip(*[iter(xs[0])] * 2, strict=True)]
    )[None].repeat(2, 0),
    "tile": lambda xs: jnp.tile(xs[:, ::2] ** 2, (1, 2, 3)),
    "tile in front": lambda xs: jnp.tile(xs[:, None], (1, 3, 1, 1)) ** 2,
    "multiplied in places": lambda xs: xs.at[:, jnp.array([4, 1])].multiply(
        xs[:, 2:4], unique_indices=True
    ),
    "subtracted in places": lambda xs: xs.at[:, jnp.array([4, 1, 1])].subtract(xs[:, 3:] ** 2),
    "triangular solve": lambda xs: lax.linalg.triangular_solve(
        jnp.broadcast_to(jnp.triu(jnp.ones((6, 6))) + jnp.eye(6), (2, 6, 6)), xs, left_side=True
    ),
    "triangular solve from the right": lambda xs: lax.linalg.triangular_solve(
        jnp.broadcast_to(jnp.triu(jnp.ones((4, 4))) + jnp.eye(4), (2, 4, 4)), xs
    ),
    "a rule with an integer": lambda xs: times(jnp.arange(1, 5), xs) * xs[:, ::-1],
    "mantissas": lambda xs: jnp.frexp(xs)[0] * jnp.ldexp(xs[:, ::-1], 2),
    "solve": lambda xs: jnp.linalg.solve(jnp.ones((6, 6)) + jnp.eye(6), jnp.sin(xs)),
    "tridiagonal solve": lambda xs: lax.linalg.tridiagonal_solve(
        jnp.ones((2, 6)), 4 * jnp.ones((2, 6)), jnp.ones((2, 6)), xs**2
    ),
}


@pytest.mark.parametrize("name", NEW_RULES)
def test_new_rules_lose_no_edge_and_are_not_dense(name):
    fn = NEW_RULES[name]
    xs = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
    relation, _, reader = dependence_of(jacreg.linearize(fn, xs))
    # Since jax 0.12 frexp and ldexp stand behind an operation that says nothing of itself.
    hidden = name == "mantissas" and reader.dense_primitives == ["call_hi_primitive"]
    assert hidden or not reader.dense_primitives
    if name == "unpacked in Python":
        return  # its rows are mixed, on purpose of the plain unpacking
    dense = jax.vmap(jax.jacrev(lambda x: fn(jnp.stack([x, x]))[0]))(xs)
    true = np.asarray(dense).reshape(2, -1, 24).any(0)
    found = relation.matrix().toarray()
    assert not (true & ~found).any()
    if hidden:
        return
    if name not in ("solve", "triangular solve", "triangular solve from the right"):
        np.testing.assert_array_equal(found, true)
    assert not found.all()


def test_a_solve_leads_no_farther_than_its_matrix():
    """Two blocks that do not meet: the inverse keeps them apart."""
    index = jnp.array([1, 0, 3, 2])

    def solve(xs):
        return lax.custom_linear_solve(
            lambda x: 3 * x + x[:, index], jnp.sin(xs), lambda mv, b: (3 * b - b[:, index]) / 8,
            symmetric=True,
        )  # fmt: skip

    xs = jnp.arange(8.0).reshape(2, 4)
    coloring = jacreg.color(solve, xs)
    assert coloring.num_colors == 2
    dense = jax.vmap(jax.jacrev(lambda x: solve(x[None])[0]))(xs)
    found = jacreg.divergence(jacreg.linearize(solve, xs), coloring)
    np.testing.assert_allclose(found, jnp.trace(dense, axis1=1, axis2=2), rtol=1e-12)


def opaque():
    """A linear primitive that nobody has a rule for."""
    primitive = jex.Primitive("opaque")
    primitive.def_impl(lambda x: 2 * x)
    primitive.def_abstract_eval(lambda x: x)
    ad.primitive_jvps[primitive] = lambda xs, ts: (primitive.bind(*xs), primitive.bind(*ts))
    return primitive.bind


DENSE = {
    "no rule": (lambda xs: opaque()(xs), "opaque"),
    "matrix": (lambda xs: xs @ jnp.ones((5, 5)), "dot_general"),
    "matrix of one example": (jax.vmap(lambda x: jnp.ones((5, 5)) @ x), "dot_general"),
    "mean": (lambda xs: xs - xs.mean(1, keepdims=True), "reduce_sum"),
    "attention": (lambda xs: jax.nn.softmax(xs[:, :, None] * xs[:, None]) @ xs[..., None], ""),
    "one entry": (lambda xs: xs[:, :1] ** 2, ""),
    "all pairs": (lambda xs: xs[:, jnp.array([[1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 4],
        [0, 1, 2, 4], [0, 1, 2, 3]])].sum(-1), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_plan_says_why(name):
    fn, because = DENSE[name]
    shape = jax.ShapeDtypeStruct((2, 1 if name == "one entry" else 5), jnp.float64)
    coloring = jacreg.color(fn, shape, quantity="jacobian")
    assert coloring.is_dense
    assert coloring.dense_because
    assert because in coloring.dense_because[0]
    assert coloring.dense_because[0] in repr(coloring)
