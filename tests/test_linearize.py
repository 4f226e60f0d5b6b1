"""One object for value and Jacobian: shapes, dtypes, directions, pytrees, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

W = np.random.default_rng(0).normal(size=(6, 4))


def layer(xs):
    return jnp.tanh(xs @ jnp.asarray(W, xs.dtype))


def batch(shape=(5, 6), seed=0, dtype=None):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def test_value_jvp_and_vjp_equal_jax(x64):
    xs, v, u = batch(), batch(seed=1), batch((5, 4), seed=2)
    lin = jacreg.linearize(layer, xs)
    value, tangent = jax.jvp(layer, (xs,), (v,))
    np.testing.assert_array_equal(lin.value, value)
    np.testing.assert_allclose(lin.jvp(v), tangent, rtol=1e-13)
    np.testing.assert_allclose(lin.vjp(u), jax.vjp(layer, xs)[1](u)[0], rtol=1e-13)
    np.testing.assert_array_equal(lin.evaluate(xs + 1), layer(xs + 1))


def test_seed_shapes_per_image_jacobian_of_a_batched_function(x64):
    """A batched function of images gives [3, 2, 2, 1, 2, 2, 1] alone."""

    def fn(images):
        return jnp.sin(images) * images[:, ::-1]

    images = batch((3, 2, 2, 1))
    lin = jacreg.linearize(fn, images)
    blocks = jacreg.jacobian(lin)
    assert blocks.shape == (3, 2, 2, 1, 2, 2, 1)
    full = jax.jit(jax.jacobian(fn))(images)
    for n in range(3):
        np.testing.assert_allclose(blocks[n], full[n, :, :, :, n], atol=1e-14)
    expected = np.einsum("nabcnabc->n", np.asarray(full))
    np.testing.assert_allclose(jacreg.divergence(lin), expected, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_low_precision_is_kept(dtype):
    @jax.jit
    def results(xs, key):
        lin, square = jacreg.linearize(layer, xs), jacreg.linearize(jnp.sin, xs)
        return {
            "norm": jacreg.frobenius_squared(lin, jacreg.Exact()),
            "products": (lin.value, lin.jvp(lin.xs), lin.vjp(lin.value)),
            "matrices": (jacreg.jacobian(lin), jacreg.gram(lin), jacreg.diagonal(square)),
            "volume": jacreg.log_pseudo_determinant(lin),
            "traces": (
                jacreg.divergence(square),
                jacreg.divergence(square, jacreg.Hutchinson(), key=key),
            ),
            "penalties": (
                jacreg.frobenius_squared(lin, jacreg.Projection(), key=key),
                jacreg.losses.jacobian_penalty(lin, key=key),
            ),
        }

    found = results(batch(dtype=dtype), jax.random.key(0))
    assert {str(r.dtype) for r in jax.tree.leaves(found)} == {dtype}
    exact = jacreg.frobenius_squared(jacreg.linearize(layer, batch()), jacreg.Exact())
    np.testing.assert_allclose(
        np.asarray(found["norm"], np.float32), exact, rtol=0.05 if dtype != "float32" else 1e-5
    )


def test_float64_is_kept(x64):
    lin = jacreg.linearize(layer, batch())
    assert (
        jacreg.frobenius_squared(lin, jacreg.Projection(), key=jax.random.key(0)).dtype
        == jnp.float64
    )


def test_arguments_are_not_differentiated_and_share_the_batch(x64):
    xs, t = batch(), batch((5,), seed=3)
    lin = jacreg.linearize(lambda x, t, s: layer(x) * t[:, None] * s, xs, t, 2.0)
    np.testing.assert_allclose(lin.jvp(xs), jacreg.linearize(layer, xs).jvp(xs) * t[:, None] * 2)
    labels = jnp.arange(5) % 4
    picked = jacreg.linearize(lambda x, y: layer(x)[jnp.arange(5), y], xs, labels)
    assert picked.value.shape == (5,)
    with pytest.raises(ValueError, match="argument 1"):
        jacreg.linearize(lambda x, t: x, xs, jnp.ones(3))


def test_auxiliary_output_is_kept(x64):
    lin = jacreg.linearize(lambda x: (layer(x), {"mean": x.mean()}), batch(), has_aux=True)
    np.testing.assert_allclose(lin.aux["mean"], batch().mean())
    assert lin.value.shape == (5, 4)
    with pytest.raises(ValueError, match="has_aux"):
        jacreg.linearize(layer, batch(), has_aux=True)


def test_crosses_jit_and_is_reused_there(x64):
    made = jax.jit(lambda xs: jacreg.linearize(layer, xs))(batch())
    used = jax.jit(lambda lin: lin.vjp(lin.value))(made)
    np.testing.assert_allclose(used, jacreg.linearize(layer, batch()).vjp(layer(batch())))
    noise = jacreg.frobenius_squared(made, jacreg.NoiseInjection(1e-3), key=jax.random.key(0))
    assert np.isfinite(noise).all()
    leaves, tree = jax.tree.flatten(made)
    assert jax.tree.unflatten(tree, leaves).value.shape == (5, 4)


def test_traces_the_function_once_and_compiles_once():
    traced = []

    def fn(xs):
        traced.append(1)
        return layer(xs)

    @jax.jit
    def step(xs, key):
        lin = jacreg.linearize(fn, xs)
        return lin.value.sum() + jacreg.losses.jacobian_penalty(lin, key=key).sum()

    for seed in range(3):
        step(batch(seed=seed), jax.random.key(seed))
    assert len(traced) == 1


def test_vmap_over_parameters(x64):
    scales = jnp.arange(1.0, 4.0)

    def norm(scale):
        lin = jacreg.linearize(lambda x: layer(x) * scale, batch())
        return jacreg.frobenius_squared(lin, jacreg.Exact())

    np.testing.assert_allclose(jax.vmap(norm)(scales), jnp.stack([norm(s) for s in scales]))


@jax.custom_vjp
def reverse_only(xs):
    return jnp.sin(xs)


reverse_only.defvjp(lambda xs: (jnp.sin(xs), xs), lambda xs, g: (g * jnp.cos(xs),))


def forward_only(xs):
    return jax.lax.while_loop(
        lambda state: state[0] < 2, lambda state: (state[0] + 1, jnp.sin(state[1])), (0, xs)
    )[1]


@pytest.mark.parametrize("jitted", [False, True])
def test_one_direction_serves_what_it_can(jitted, x64):
    """Also under jit and in chunks, where JAX itself notices a custom VJP only when it compiles."""
    wrap = jax.jit if jitted else (lambda f: f)
    for fn, diagonal in ((reverse_only, jnp.cos), (forward_only, lambda x: jnp.cos(jnp.sin(x)) * jnp.cos(x))):  # fmt: skip  # noqa: E501
        for chunk in (None, 1) if jitted else (None,):

            def quantities(xs, fn=fn, chunk=chunk):
                lin = jacreg.linearize(fn, xs)
                exact = jacreg.Exact(chunk_size=chunk)
                return (
                    jacreg.diagonal(lin, exact),
                    jacreg.frobenius_squared(lin, exact),
                    jacreg.jacobian(lin, jacreg.Exact(chunk)),
                    jacreg.gram(lin) if fn is reverse_only else None,
                    jacreg.divergence(lin, jacreg.Hutchinson(), key=jax.random.key(0)),
                )

            found, norm, dense, gram, trace = wrap(quantities)(batch())
            expected = diagonal(batch())
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            np.testing.assert_allclose(norm, (expected**2).sum(1), rtol=1e-12)
            np.testing.assert_allclose(dense, jax.vmap(jnp.diag)(expected), rtol=1e-12)
            # Signs square to one: exact for a diagonal Jacobian.
            np.testing.assert_allclose(trace, expected.sum(1), rtol=1e-12)
            if gram is not None:
                np.testing.assert_allclose(gram, jax.vmap(jnp.diag)(expected**2), rtol=1e-12)


def test_the_missing_direction_says_why(x64):
    lin = jacreg.linearize(reverse_only, batch())
    with pytest.raises(jacreg.DirectionError, match=r"custom VJP.*reverse mode"):
        lin.jvp(batch())
    with pytest.raises(TypeError, match="no forward-mode"):
        jacreg.frobenius_squared(lin, jacreg.Projection(mode="forward"), key=jax.random.key(0))
    lin = jacreg.linearize(forward_only, batch())
    with pytest.raises(jacreg.DirectionError, match=r"no reverse-mode.*while_loop"):
        lin.vjp(batch())


def test_pytrees_in_and_out(x64):
    tree = {"a": batch((5, 2, 3)), "b": batch((5,), seed=4)}

    def fn(t):
        return (jnp.sin(t["a"]) * t["b"][:, None, None], (t["a"] ** 2).sum((1, 2)) * t["b"])

    lin = jacreg.linearize(fn, tree)

    def one(a, b):
        return tuple(y[0] for y in fn({"a": a[None], "b": b[None]}))

    dense = jax.jit(jax.vmap(jax.jacobian(one, argnums=(0, 1))))(tree["a"], tree["b"])
    blocks = jacreg.jacobian(lin)
    squared = 0
    for out in range(2):
        for position, name in enumerate("ab"):
            np.testing.assert_allclose(blocks[out][name], dense[out][position], atol=1e-13)
            squared += (np.asarray(dense[out][position]) ** 2).reshape(5, -1).sum(1)
    np.testing.assert_allclose(jacreg.frobenius_squared(lin, jacreg.Exact()), squared)


def test_shapes_at_the_edge(x64):
    scalars = jacreg.linearize(jnp.sin, batch((5,)))
    np.testing.assert_allclose(jacreg.divergence(scalars), jnp.cos(batch((5,))))
    assert jacreg.jacobian(scalars).shape == (5,)
    nothing = jacreg.linearize(lambda x: x[:, :0], batch())
    assert jacreg.jacobian(nothing).shape == (5, 0, 6)
    np.testing.assert_array_equal(jacreg.frobenius_squared(nothing, jacreg.Exact()), np.zeros(5))
    empty = jacreg.linearize(layer, jnp.zeros((0, 6)))
    assert jacreg.frobenius_squared(empty, key=jax.random.key(0)).shape == (0,)
    constant = jacreg.linearize(lambda x: jnp.ones((5, 2)), batch())
    np.testing.assert_array_equal(constant.vjp(jnp.ones((5, 2))), np.zeros((5, 6)))


def test_gram_of_a_wide_jacobian_needs_no_jacobian():
    """10000 inputs, 5 outputs: no array of 5 x 10000 in the compiled program."""
    weights = jax.random.normal(jax.random.key(0), (10000, 5)) / 100

    def products(weights, x1, x2):
        fn = lambda x: jnp.tanh(x @ weights)  # noqa: E731
        return jacreg.gram(jacreg.linearize(fn, x1), jacreg.linearize(fn, x2))

    x1, x2 = jax.random.normal(jax.random.key(1), (2, 3, 10000))
    lowered = jax.jit(products).lower(weights, x1, x2)
    assert "3x5x10000" not in lowered.as_text()
    assert "5x3x10000" not in lowered.as_text()
    j1, j2 = ((1 - jnp.tanh(x @ weights) ** 2)[:, :, None] * weights.T[None] for x in (x1, x2))
    np.testing.assert_allclose(
        lowered.compile()(weights, x1, x2), jnp.einsum("nij,nkj->nik", j1, j2), rtol=1e-4, atol=1e-5
    )


def test_repr_explains():
    text = repr(jacreg.linearize(layer, batch()))
    assert "float32[N, 6] -> float32[N, 4]" in text
    assert "N=5" in text
    assert repr(jax.tree.map(lambda _: None, jacreg.linearize(layer, batch())))


def _linearized():
    return jacreg.linearize(layer, batch())


BAD = {
    "no array": (lambda: jacreg.linearize(layer, {}), ValueError, "no array"),
    "two lengths": (
        lambda: jacreg.linearize(lambda t: t["a"], {"a": batch(), "b": batch((4, 6))}),
        ValueError, r"share the batch axis.*\[4, 5\]"),
    "nothing returned": (
        lambda: jacreg.linearize(lambda x: (), batch()), ValueError, "returned no array"),
    "tree": (
        lambda: jacreg.linearize(layer, batch()).jvp({"a": batch()}), ValueError, "tree structure"),
    "integers": (lambda: jacreg.linearize(layer, jnp.ones((5, 6), int)), TypeError, "cast"),
    "no batch": (lambda: jacreg.linearize(jnp.sin, jnp.ones(())), ValueError, "batch axis"),
    "lost batch": (lambda: jacreg.linearize(jnp.sum, batch()), ValueError, "keep the batch axis"),
    "other batch": (lambda: jacreg.linearize(lambda x: x[:2], batch()), ValueError, "N=5"),
    "labels": (lambda: jacreg.linearize(lambda x: x.argmax(1), batch()), TypeError, "logits"),
    "no function": (lambda: jacreg.linearize(3, batch()), TypeError, "function"),
    "mode": (lambda: jacreg.linearize(layer, batch(), mode="sideways"), ValueError, "mode"),
    "tangent": (
        lambda: jacreg.linearize(layer, batch()).jvp(jnp.ones((5, 4))), ValueError, r"\(5, 6\)"),
    "not square": (
        lambda: jacreg.divergence(jacreg.linearize(layer, batch())), ValueError, "square"),
    "no key": (
        lambda: jacreg.frobenius_squared(_linearized(), jacreg.Projection()), ValueError, "key"),
    "no method": (
        lambda: jacreg.divergence(jacreg.linearize(jnp.sin, batch()), jacreg.Projection()),
        TypeError, "Hutchinson"),
    "class": (
        lambda: jacreg.divergence(jacreg.linearize(jnp.sin, batch()), jacreg.Hutchinson),
        TypeError, r"Hutchinson\(\.\.\.\)"),
    "chunk": (lambda: jacreg.Exact(chunk_size=0), ValueError, "at least 1"),
    "probes": (lambda: jacreg.Projection(num_probes=1.5), TypeError, "integer"),
    "distribution": (lambda: jacreg.Projection(distribution="cube"), ValueError, "sphere"),
    "scale": (lambda: jacreg.NoiseInjection(-1.0), ValueError, "positive"),
    "not finite": (lambda: jacreg.NoiseInjection(float("nan")), ValueError, "finite"),
    "laplacian": (
        lambda: jacreg.laplacian(jacreg.linearize(layer, batch())), ValueError, "one number"),
    "laplacian of a function": (lambda: jacreg.laplacian(layer), TypeError, "linearize"),
    "gram": (
        lambda: jacreg.gram(
            jacreg.linearize(layer, batch()), jacreg.linearize(jnp.sin, batch((5, 7)))),
        ValueError, "one shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(case):
    call, error, words = BAD[case]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("case", ["lost batch", "labels", "tangent", "not square"])
def test_bad_input_is_seen_at_trace_time(case):
    call, error, words = BAD[case]
    with pytest.raises(error, match=words):
        jax.jit(lambda _: call())(0.0)
