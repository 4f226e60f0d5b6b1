"""empirical_ntk against the dense parameter Jacobian, by both strategies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg
from jacreg._empirical_ntk import _kernel
from jacreg._flops import count_flops

KEY = jax.random.key(0)


def _params():
    first, second = jax.random.split(KEY)
    return {
        "first": jax.random.normal(first, (5, 7)),
        "step": jnp.array(3),
        "second": [jax.random.normal(second, (7, 3))],
    }


def _apply(params, xs):
    return jnp.tanh(xs @ params["first"]) @ params["second"][0]


def _batches():
    xs, others = jax.random.split(jax.random.key(1))
    return jax.random.normal(xs, (6, 5)), jax.random.normal(others, (4, 5))


def _dense(xs):
    params = _params()

    def run(first, second):
        return _apply({**params, "first": first, "second": [second]}, xs)

    jacs = jax.jacrev(run, argnums=(0, 1))(params["first"], params["second"][0])
    return jnp.concatenate([j.reshape(xs.shape[0], 3, -1) for j in jacs], axis=-1)


@pytest.mark.parametrize("products", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("traced", [True, False])
def test_both_strategies(x64, monkeypatch, products, symmetric, traced):
    monkeypatch.setattr(_kernel, "_products_are_cheaper", lambda *_: products)
    xs, others = _batches()
    full = jnp.einsum("iap,jbp->ijab", _dense(xs), _dense(xs if symmetric else others))
    truth = jnp.einsum("ijaa->ij", full) if traced else full
    for chunk in (None, 4):
        found = jax.jit(
            lambda p, c=chunk: jacreg.empirical_ntk(
                _apply, p, xs, None if symmetric else others, trace_outputs=traced, chunk_size=c
            )
        )(_params())
        np.testing.assert_allclose(found, truth, rtol=1e-10, atol=1e-12)


def test_a_linear_model_has_the_gram_matrix_times_its_outputs(x64):
    xs, _ = _batches()
    found = jacreg.empirical_ntk(lambda w, x: x @ w, jnp.ones((5, 3)), xs)
    np.testing.assert_allclose(found, 3 * xs @ xs.T, rtol=1e-12)


def _sizes(jaxpr):
    """Entries of every intermediate, nested jaxprs included."""
    for equation in jaxpr.eqns:
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)
        yield from (int(np.prod(v.aval.shape)) for v in equation.outvars)


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("chunk", [None, 2])
def test_no_parameter_jacobian_of_the_whole_batch(monkeypatch, chunk, structured):
    params = jnp.ones((40, 30))
    xs = jnp.ones((16, 40))
    of_one, whole = 30 * params.size, 16 * 30 * params.size
    # In float32 the default is 64 MiB: here a quarter of the batch.
    monkeypatch.setattr(_kernel, "_BLOCK_ENTRIES", whole // 4)
    traced = jax.make_jaxpr(
        lambda p: jacreg.empirical_ntk(
            lambda w, x: jnp.sin(x @ (w if structured else w**2)), p, xs, chunk_size=chunk
        )
    )(params)
    # Of a weight that enters a product alone not even one example's is formed.
    assert max(_sizes(traced.jaxpr)) < (of_one if structured else whole / 2)
    # The measure itself sees such an array where there is one.
    dense = jax.make_jaxpr(lambda p: jax.jacrev(lambda w: jnp.sin(xs @ w))(p))(params)
    assert max(_sizes(dense.jaxpr)) >= whole


@pytest.mark.parametrize("few", [True, False])
def test_many_outputs_in_full_go_by_products(monkeypatch, few):
    taken = []
    monkeypatch.setattr(_kernel, "by_products", lambda *args: taken.append(args) or jnp.zeros(()))
    outputs = 2 if few else 3000
    jax.eval_shape(
        lambda w, xs: jacreg.empirical_ntk(
            lambda w, x: jnp.tanh(x @ w[0]) @ w[1], w, xs, trace_outputs=few
        ),
        [jnp.ones((40, 30)), jax.ShapeDtypeStruct((30, outputs), jnp.float32)],
        jnp.ones((8, 40)),
    )
    assert bool(taken) is not few


def test_images_and_shapes():
    kernel = jax.random.normal(KEY, (3, 3, 1, 2))

    def apply(kernel, xs):
        return jax.lax.conv_general_dilated(
            xs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    xs = jax.random.normal(KEY, (3, 4, 4, 1))
    traced, full = jax.jit(
        lambda kernel: [
            jacreg.empirical_ntk(apply, kernel, xs, trace_outputs=traced)
            for traced in (True, False)
        ]
    )(kernel)
    assert traced.shape == (3, 3)
    assert full.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(jnp.einsum("ijaa->ij", full), traced, rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_is_kept(dtype):
    found = jacreg.empirical_ntk(
        lambda w, x: x @ w, jnp.ones((5, 3), dtype), jnp.ones((2, 5), dtype)
    )
    assert found.dtype == dtype


def test_empty():
    assert jacreg.empirical_ntk(lambda w, x: x @ w, jnp.ones((5, 3)), jnp.ones((0, 5))).shape == (
        0,
        0,
    )


@pytest.mark.parametrize(
    ("apply", "params", "error", "words"),
    [
        (lambda w, x: (x @ w).sum(), jnp.ones((5, 3)), ValueError, "batch axis"),
        (lambda w, x: (x @ w).argmax(1), jnp.ones((5, 3)), TypeError, "floating"),
        (lambda w, x: x, jnp.ones(3, jnp.int32), TypeError, "no floating-point leaf"),
    ],
)
def test_bad_input(apply, params, error, words):
    with pytest.raises(error, match=words):
        jacreg.empirical_ntk(apply, params, jnp.ones((2, 5)))


def test_flops():
    left, right = jnp.ones((4, 5)), jnp.ones((5, 6))
    assert count_flops(lambda a, b: a @ b, left, right) == 2 * 4 * 5 * 6
    assert count_flops(jax.jit(lambda a, b: a @ b), left, right) == 2 * 4 * 5 * 6

    def loop(a):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), a, None, length=10)[0]

    assert count_flops(loop, left) == 10 * 20

    def either(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: 2 * (a @ b))

    assert count_flops(either, left, right) < 2 * count_flops(lambda a, b: a @ b, left, right)


def test_inputs_of_two_dtypes_or_shapes_have_programs_of_their_own(x64):
    weights = [jnp.array([[1.0], [2.0]]), jnp.array([[3.0, -1.0], [0.5, 2.0]])]
    whole = jnp.array([[7, 4], [3, 9]])

    def halved(params, xs):
        return (xs // 2) @ params[0]

    truth = (whole // 2).astype(float) @ jnp.array([[3.0, 2.0], [1.0, 4.0]]).T
    for xs, others in ((whole, jnp.array([[7.0, 4.0], [3.0, 9.0]])), (whole * 1.0, whole)):
        found = jacreg.empirical_ntk(halved, weights, xs, others)
        np.testing.assert_allclose(found, truth)

    def pooled(params, xs):
        return jnp.mean(jnp.tanh(xs @ params[1]), axis=1) @ params[0]

    few, many = (jax.random.normal(KEY, (3, length, 2)) for length in (4, 5))
    jacobians = [
        jnp.concatenate([each.reshape(3, -1) for each in jax.jacrev(pooled)(weights, xs)], 1)
        for xs in (few, many)
    ]
    found = jacreg.empirical_ntk(pooled, weights, few, many)
    np.testing.assert_allclose(found, jacobians[0] @ jacobians[1].T, rtol=1e-10)
