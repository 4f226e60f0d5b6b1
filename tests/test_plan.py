"""What `plan` says is what the call does: paths, numbers of products, reasons with their place."""

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jacreg
import jacreg.eqx
import jacreg.nnx
from jacreg import _second_order
from jacreg._choice import Unfit
from jacreg._forward_laplacian import most_entries, room

RNG = np.random.default_rng(0)
IMAGES, VECTORS = jnp.ones((1, 8, 8, 2)), jnp.asarray(RNG.normal(size=(1, 6)), jnp.float32)


def weights(*shape):
    return jnp.asarray(RNG.normal(size=shape) / 3, jnp.float32)


def conv(xs, kernel, stride=1, padding="SAME", dilation=1):
    return jax.lax.conv_general_dilated(
        xs,
        kernel,
        (stride,) * 2,
        padding,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class NormedCNN(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.last = nnx.Conv(4, 2, (3, 3), rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.relu(self.norm(self.first(xs))))


class LayerNormed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.last = nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, xs):
        return self.last(nnx.gelu(self.norm(self.first(xs))))


QUERY, KEY, VALUE = weights(4, 4), weights(4, 4), weights(4, 4)
K1, K2, K3, DOWN, UP = (
    weights(3, 3, 2, 2),
    weights(3, 3, 2, 2),
    weights(3, 3, 2, 2),
    weights(3, 3, 2, 4),
    weights(3, 3, 6, 2),
)
MIX = weights(6, 6)


def attention(xs):
    scores = jax.nn.softmax((xs @ QUERY) @ (xs @ KEY).transpose(0, 2, 1))
    return scores @ (xs @ VALUE)


def unet(xs):
    low = jax.nn.relu(conv(xs, DOWN, 2))
    up = jnp.repeat(jnp.repeat(low, 2, 1), 2, 2)
    return conv(jnp.concatenate([up, xs], -1), UP)


def periodic(xs):
    for kernel in (K1, K2):
        xs = jnp.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
        xs = jnp.tanh(conv(xs, kernel, padding="VALID"))
    return xs


def pooled(xs):
    low = nnx.avg_pool(jnp.tanh(conv(xs, K1)), (2, 2), (2, 2))
    return jax.image.resize(low, xs.shape, "nearest")


def dilated(xs):
    return xs + conv(jnp.tanh(conv(xs, K1, dilation=2)), K2)


def recurrent(xs):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), xs, jnp.stack([MIX] * 3))[0]


def ordered(xs):
    return jnp.sort(xs @ MIX, 1)


def rolled(xs):
    return jnp.tanh(xs + 0.5 * jnp.roll(xs, 1, 1))


MLP = eqx.nn.MLP(6, 6, 16, 2, activation=jax.nn.softplus, key=jax.random.key(0))
# Divergence, then Frobenius norm: path and number of products.
CASES = {
    "nnx, running norms": (
        jacreg.nnx.function(NormedCNN(nnx.Rngs(0))),
        IMAGES,
        ("closed form", 0),
        ("colouring", 50),
    ),
    "nnx, layer norm": (
        jacreg.nnx.function(LayerNormed(nnx.Rngs(0))),
        VECTORS,
        ("products", 6),
        ("products", 6),
    ),
    "eqx MLP": (jacreg.eqx.function(MLP), VECTORS, ("closed form", 0), ("products", 6)),
    "vmapped": (
        jax.vmap(lambda x: jnp.tanh(MIX @ x)),
        VECTORS,
        ("closed form", 0),
        ("products", 6),
    ),
    "attention": (attention, jnp.ones((1, 3, 4)), ("products", 12), ("products", 12)),
    "U-Net": (unet, IMAGES, ("colouring", 28), ("colouring", 50)),
    "periodic": (periodic, IMAGES, ("closed form", 0), ("products", 128)),
    "pooled": (pooled, IMAGES, ("colouring", 18), ("colouring", 32)),
    "dilated residual": (dilated, IMAGES, ("colouring", 32), ("colouring", 98)),
    "recurrent": (recurrent, VECTORS, ("products", 6), ("products", 6)),
    "ordered": (ordered, VECTORS, ("products", 6), ("products", 6)),
    "rolled": (rolled, VECTORS, ("colouring", 2), ("colouring", 2)),
    "elementwise": (lambda xs: jnp.sin(xs) * xs, VECTORS, ("colouring", 1), ("colouring", 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_paths_and_numbers_of_products(name):
    fn, xs, trace, norm = CASES[name]
    lin = jacreg.linearize(fn, xs)
    for quantity, expected in ((jacreg.divergence, trace), (jacreg.frobenius_squared, norm)):
        plan = jacreg.plan(quantity, lin)
        assert (plan.path, plan.num_products) == expected, plan
        assert f"\nproducts  {plan.num_products}\n" in str(plan)
        if plan.path == "products":
            assert "colours save nothing" in plan.reason


@pytest.mark.parametrize(
    ("name", "operation"),
    [("recurrent", "scan"), ("ordered", "gather"), ("attention", "add_any")],
)
def test_the_reason_names_the_operation_and_the_line(name, operation):
    fn, xs, *_ = CASES[name]
    reason = jacreg.plan(jacreg.divergence, jacreg.linearize(fn, xs)).reason
    first = fn.__code__.co_firstlineno
    line = int(reason.split(f"{operation} at test_plan.py:")[1].split(")")[0])
    assert first < line <= first + 3


def test_a_convolution_in_groups_is_named_as_jax_does_and_where_it_stands():
    images, kernel = jnp.ones((1, 2, 8, 8)), jnp.ones((2, 1, 3, 3))

    def fn(xs):
        ys = jax.lax.conv_general_dilated(xs, kernel, (1, 1), "SAME", feature_group_count=2)
        return ys * jnp.sum(ys, (1, 2, 3), keepdims=True)

    reason = jacreg.plan(jacreg.divergence, jacreg.linearize(lambda xs: fn(xs), images)).reason
    place = f"conv_general_dilated at test_plan.py:{fn.__code__.co_firstlineno + 1})"
    assert f"no closed form (a convolution of another form, {place}" in reason


def running_product(xs):
    return jnp.cumprod(1 + xs, axis=1)


def in_a_loop(xs):
    def step(ys, _):
        return jnp.cumprod(ys, axis=1), None

    return jax.lax.scan(step, xs, length=2)[0]


@jax.custom_jvp
def scaled(xs):
    return xs / jnp.linalg.norm(xs, axis=1, keepdims=True)


scaled.defjvp(lambda primals, tangents: (scaled(*primals), scaled(tangents[0])))


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
@pytest.mark.parametrize(
    ("fn", "operation"),
    [(running_product, "cumprod"), (in_a_loop, "cumprod"), (scaled, "custom_jvp_call")],
)
def test_the_plan_of_a_laplacian_names_what_is_followed_for_each_direction(quantity, fn, operation):
    lin = jacreg.linearize(lambda xs: jnp.sum(fn(jnp.sin(xs)), axis=1), VECTORS)
    reason = jacreg._plan._QUANTITIES[quantity].auto[0](lin, jacreg.Auto(), float("inf")).why
    assert f"derivative rule of {operation} at test_plan.py:" in reason
    # Where it does not depend on x, it costs nothing.
    lin = jacreg.linearize(lambda xs, ys: jnp.sum(xs**2 * fn(ys), axis=1), VECTORS, VECTORS)
    assert "derivative rule" not in jacreg.plan(quantity, lin).reason
    lin = jacreg.linearize(lambda xs: jax.nn.softplus(xs @ MIX).sum(1), VECTORS)
    assert "derivative rule" not in jacreg.plan(quantity, lin).reason


def test_a_plan_is_the_same_under_jit_and_of_a_mapped_linearization():
    seen = []

    def step(xs):
        lin = jacreg.linearize(unet, xs)
        seen.append(jacreg.plan(jacreg.divergence, lin))
        return jacreg.divergence(lin)

    eager = jacreg.plan(jacreg.divergence, jacreg.linearize(unet, IMAGES))
    jax.eval_shape(jax.jit(step), IMAGES)
    jax.eval_shape(jax.vmap(step), jnp.stack([IMAGES, IMAGES]))
    assert seen == [eager, eager]


def _contractions(jaxpr, wide):
    """Operations of all products with a matrix of that many rows or columns, loops counted."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [v.aval.shape for v in equation.invars]
            (contracted, _), _ = equation.params["dimension_numbers"]
            if any(wide in shape for shape in shapes):
                total += equation.outvars[0].aval.size * np.prod(
                    [shapes[0][axis] for axis in contracted], dtype=int
                )
        inner = sum(_contractions(each, wide) for each in jex.jaxprs_in_params(equation.params))
        total += inner * equation.params.get("length", 1)
    return int(total)


WIDE = 97
INTO, OUT = weights(6, WIDE), weights(WIDE, 6)


def through_wide(xs):
    """No closed form is known behind a sort; every product passes both matrices."""
    return jnp.sort(jnp.sort(xs @ INTO, 1) @ OUT, 1)


def tall(xs):
    return jnp.sort(jnp.sort(xs @ INTO, 1) @ OUT, 1)[:, :4]


COLORED = jacreg.color(through_wide, VECTORS)
KEYS = jax.random.key(0)
METHODS = {
    jacreg.divergence: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(2), COLORED,
                        jacreg.Hutchinson(3), jacreg.HutchPlusPlus(5), jacreg.HutchPlusPlus(30)),
    jacreg.diagonal: (jacreg.Auto(), jacreg.Exact(4), jacreg.Hutchinson(3),
                      jacreg.HutchPlusPlus(5)),
    jacreg.frobenius_squared: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4),
                               jacreg.Projection(3), jacreg.Projection(2, mode="forward"),
                               jacreg.NoiseInjection(0.1), jacreg.CoupledBatch(3)),
    jacreg.jacobian: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4)),
    jacreg.gram: (jacreg.Auto(), jacreg.Exact(), jacreg.Exact(4)),
    jacreg.log_pseudo_determinant: (jacreg.Exact(), jacreg.Exact(4)),
}  # fmt: skip
CALLS = [(q, m, fn) for q, ms in METHODS.items() for m in ms for fn in (through_wide, tall)
         if fn is through_wide or q not in (jacreg.divergence, jacreg.diagonal)]  # fmt: skip


@pytest.mark.parametrize(("quantity", "method", "fn"), CALLS)
def test_the_call_takes_as_many_products_as_the_plan_says(quantity, method, fn):
    lin = jacreg.linearize(fn, VECTORS)
    plan = jacreg.plan(quantity, lin, method)
    options = {"method": method}
    if quantity not in (jacreg.jacobian, jacreg.gram):
        options["key"] = KEYS
    taken = _contractions(jax.make_jaxpr(lambda: quantity(lin, **options))().jaxpr, WIDE)
    one = _contractions(jax.make_jaxpr(lin.jvp)(VECTORS).jaxpr, WIDE)
    if isinstance(method, jacreg.NoiseInjection):
        assert plan == jacreg.Plan("finite differences", 0, plan.reason)
    else:
        assert plan.path == "products"
        assert taken == plan.num_products * one, plan


INNER = weights(6, 9), weights(9, 7), weights(7, 8), weights(8, 6)


def deep_dense(xs):
    for matrix in INNER[:3]:
        xs = jnp.tanh(xs @ matrix)
    return jnp.sin(xs @ INNER[3])


DENSE = {
    "one layer": lambda xs: jnp.tanh(xs @ MIX) * xs,
    "one hidden layer": lambda xs: jnp.sin(jnp.tanh(xs @ INTO) @ OUT),
    "three hidden layers": deep_dense,
    "residual": lambda xs: xs + jax.nn.relu(xs @ INTO) @ OUT,
    "weighted": lambda xs: 0.5 * xs - 3 * (jnp.tanh(xs @ INTO) @ OUT),
    "vmapped": jax.vmap(lambda x: OUT.T @ jax.nn.softplus(INTO.T @ x)),
}


@pytest.mark.parametrize("fn", DENSE.values(), ids=list(DENSE))
def test_the_diagonal_of_matrices_has_a_closed_form(fn):
    xs = jnp.asarray(RNG.normal(size=(3, 6)), jnp.float32)
    lin = jacreg.linearize(fn, xs)
    plan = jacreg.plan(jacreg.diagonal, lin)
    assert (plan.path, plan.num_products) == ("closed form", 0)
    exact = jacreg.diagonal(lin, jacreg.Exact())
    found = jax.jit(lambda xs: jacreg.diagonal(jacreg.linearize(fn, xs)))(xs)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
    assert found.dtype == jnp.float32


def test_a_table_that_is_traced_counts_as_unknown():
    table = jnp.asarray([1, 2, 3, 4, 5, 0])

    def neighbours(table):
        def fn(xs):
            return jnp.sin(xs) * xs[:, table]

        return fn

    known = jacreg.plan(jacreg.divergence, jacreg.linearize(neighbours(table), VECTORS))
    assert (known.path, known.num_products) == ("colouring", 2)
    seen = []

    @jax.jit
    def step(table):
        lin = jacreg.linearize(neighbours(table), VECTORS)
        seen.append(jacreg.plan(jacreg.divergence, lin))
        return jacreg.divergence(lin)

    found = step(table)
    assert seen[0].path == "products"
    assert "gather" in seen[0].reason
    assert "test_plan.py" in seen[0].reason
    np.testing.assert_allclose(
        found, jacreg.divergence(jacreg.linearize(neighbours(table), VECTORS)), rtol=1e-5
    )
    # The other table has another pattern, and its own colours.
    crossed = jnp.asarray([1, 0, 3, 2, 5, 4])
    lin = jacreg.linearize(neighbours(crossed), VECTORS)
    truth = jacreg.divergence(lin, jacreg.Exact())
    np.testing.assert_allclose(jacreg.divergence(lin), truth, rtol=1e-5)


def test_empty_batches_take_nothing():
    lin = jacreg.linearize(jnp.sin, jnp.ones((0, 3)))
    assert jacreg.plan(jacreg.divergence, lin).path == "empty"
    assert jacreg.divergence(lin).shape == (0,)


def test_what_is_no_quantity_is_refused():
    lin = jacreg.linearize(jnp.sin, VECTORS)
    with pytest.raises(TypeError, match="one of the functions divergence"):
        jacreg.plan("divergence", lin)
    with pytest.raises(TypeError, match="Linearization"):
        jacreg.plan(jacreg.divergence, jnp.sin)
    with pytest.raises(TypeError, match="method must be one of Auto, Exact"):
        jacreg.plan(jacreg.divergence, lin, jacreg.Projection())
    with pytest.raises(ValueError, match="square"):
        jacreg.plan(jacreg.divergence, jacreg.linearize(lambda xs: xs[:, :2], VECTORS))


def test_sparse_jacobians_hold_what_the_colours_tell_apart():
    lin = jacreg.linearize(lambda xs: rolled(xs)[:, ::2], VECTORS)
    coloring = jacreg.color(lambda xs: rolled(xs)[:, ::2], VECTORS, quantity=jacreg.jacobian)
    dense = jacreg.jacobian(lin, jacreg.Exact())
    for method, entries in ((jacreg.Auto(), 6), (coloring, 6), (jacreg.Exact(), 18)):
        found = jacreg.jacobian(lin, method, sparse=True)
        assert (found.nse, found.shape) == (entries, (1, 3, 6))
        np.testing.assert_allclose(found.todense(), dense, rtol=1e-6)
    image = jacreg.linearize(lambda xs: jnp.sin(xs) * xs[:, ::-1], IMAGES)
    found = jacreg.jacobian(image, sparse=True)
    np.testing.assert_allclose(found.todense(), jacreg.jacobian(image), rtol=1e-6)
    with pytest.raises(ValueError, match="one array"):
        jacreg.jacobian(jacreg.linearize(lambda xs: (xs, xs), VECTORS), sparse=True)


def _energy(fn):
    return lambda xs: jnp.sum(jnp.sin(fn(xs)), axis=tuple(range(1, xs.ndim)))


@pytest.mark.parametrize("quantity", list(jacreg._plan._QUANTITIES), ids=lambda q: q.__name__)
def test_a_plan_compiles_and_computes_nothing(quantity, compilations):
    """It reads programs: of a Hessian, too, whose gradient has to be differentiated for it."""
    for fn, xs in ((rolled, VECTORS), (deep_dense, VECTORS)):
        fn = _energy(fn) if quantity in (jacreg.laplacian, jacreg.hessian_diagonal) else fn
        lin = jacreg.linearize(fn, xs)
        compilations.clear()
        if quantity is not jacreg.log_pseudo_determinant:
            jacreg.plan(quantity, lin)
        jacreg.plan(quantity, lin, jacreg.Exact())
        assert not compilations


def test_a_hessian_that_is_no_chain_is_not_differentiated_to_see_that(monkeypatch):
    monkeypatch.setattr(jacreg._laplacian, "gradient_field", None)
    lin = jacreg.linearize(_energy(lambda xs: jax.nn.softmax(jnp.cumsum(xs, axis=1))), VECTORS)
    plan = jacreg.plan(jacreg.laplacian, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_a_hessian_that_nothing_else_can_save_is_not_traced(quantity, monkeypatch):
    """The forms of its program say what the forward Laplacian goes through and may hold."""
    fields = {
        "dense": (_energy(lambda xs: jnp.tanh(xs @ MIX) @ MIX), VECTORS),
        "attention": (_energy(attention), jnp.ones((2, 3, 4))),
        "pooled": (_energy(pooled), IMAGES),
    }
    if quantity is jacreg.hessian_diagonal:
        del fields["dense"]  # products may take less
    lins = {name: jacreg.linearize(fn, xs) for name, (fn, xs) in fields.items()}
    # What nothing of x enters may be anything.
    lins["argument"] = jacreg.linearize(
        lambda xs, ys: _energy(pooled)(xs) * _energy(recurrent)(ys), IMAGES, VECTORS
    )
    weighed = jacreg.linearize(_energy(recurrent), VECTORS)
    ruled = jacreg.linearize(_energy(lambda xs: jax.nn.softplus(xs @ MIX)), VECTORS)
    monkeypatch.setattr(jacreg._laplacian, "gradient_field", None)
    if quantity is jacreg.laplacian:
        assert jacreg._plan._QUANTITIES[quantity].decide(ruled, jacreg.Auto()).cost == 0
    monkeypatch.setattr(jax, "make_jaxpr", None)
    for lin in lins.values():
        assert jacreg.plan(quantity, lin).path == "forward Laplacian"
    with pytest.raises(TypeError):
        jacreg.plan(quantity, weighed)


def _convolutions(depth, mode, *, bent):
    """Convolutions of an image with tanh between them, padded with zeros or as `jnp.pad` does."""
    kernels = np.random.default_rng(0).normal(size=(depth, 3, 3, 2, 2)).astype(np.float32)

    def energy(xs):
        for number, kernel in enumerate(kernels):
            xs = xs if mode == "zeros" else jnp.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode)
            xs = conv(xs, kernel, padding="SAME" if mode == "zeros" else "VALID")
            xs = jnp.tanh(xs) if bent or number < depth - 1 else xs
        return jnp.sum(xs, axis=(1, 2, 3))

    return energy


@pytest.mark.parametrize("mode", ["wrap", "reflect", "edge"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_padding_by_other_entries_leaves_nothing_to_weigh(quantity, depth, mode, monkeypatch):
    """A closed trace has no such layer on its way back, and colours take as many directions."""
    lin = jacreg.linearize(_convolutions(depth, mode, bent=True), IMAGES)
    monkeypatch.setattr(jacreg._laplacian, "gradient_field", None)
    monkeypatch.setattr(jax, "make_jaxpr", None)
    plan = jacreg.plan(quantity, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


@pytest.mark.parametrize("mode", ["zeros", "wrap", "reflect"])
def test_the_laplacian_of_three_convolutions_is_read_from_forms(mode, monkeypatch):
    """A second derivative behind the third leads through six: more than a closed trace has."""
    lin = jacreg.linearize(_convolutions(3, mode, bent=True), IMAGES)
    monkeypatch.setattr(jacreg._laplacian, "gradient_field", None)
    monkeypatch.setattr(jax, "make_jaxpr", None)
    plan = jacreg.plan(jacreg.laplacian, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)


def _wide(stride):
    """Sixteen channels inside, two at the end."""
    inside, outside = weights(3, 3, 2, 16), weights(3, 3, 16, 2)
    return _energy(lambda xs: jnp.tanh(conv(jnp.tanh(conv(xs, inside, stride)), outside)))


@pytest.mark.parametrize("stride", [1, 2])
def test_what_lies_in_shared_slots_is_told_without_tracing(stride, monkeypatch):
    """No more is held than forms say, and less than all directions would take."""
    lin = jacreg.linearize(_wide(stride), IMAGES)
    field = jex.ClosedJaxpr(lin.program.jaxpr, list(lin.constants))
    traced = jax.make_jaxpr(lambda: _second_order.forward_laplacian(field, [IMAGES], 0)[1])()
    held = _second_order._largest(traced.jaxpr)
    whole = most_entries(field.jaxpr, [True], IMAGES.size)
    rooms = {most: room(field.jaxpr, [IMAGES.shape], most) for most in range(0, whole + 1, 64)}
    told = next(most for most, found in rooms.items() if found.fits)
    sure = next(most for most, found in rooms.items() if not found.exceeds)
    assert sure <= held <= told < whole
    monkeypatch.setattr(jax, "make_jaxpr", None)
    for most, settled in ((told, False), (told - 64, None)):
        monkeypatch.setattr(_second_order, "_MOST_ENTRIES", most)
        assert _second_order._settled(lin, field.jaxpr, _second_order._LAPLACIAN) is settled
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", sure - 64)
    with pytest.raises(Unfit, match="memory"):
        _second_order.laplacian_forward(lin, jacreg.Auto(), float("inf"))


def _attended(xs):
    return _energy(lambda xs: attention(xs) / (1 + jnp.abs(xs).mean((1, 2), keepdims=True)))(xs)


@pytest.mark.parametrize("quantity", [jacreg.laplacian, jacreg.hessian_diagonal])
def test_directions_that_mix_and_do_not_fit_are_carried_in_parts(quantity, monkeypatch):
    """Products with the gradient are as many, and colours save none: that needs no trace."""
    lin = jacreg.linearize(_attended, jnp.asarray(RNG.normal(size=(2, 3, 4)), jnp.float32))
    exact = quantity(lin, jacreg.Exact())
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", 100)
    with monkeypatch.context() as untraced:
        untraced.setattr(jax, "make_jaxpr", None)
        plan = jacreg.plan(quantity, lin)
    assert (plan.path, plan.num_products) == ("forward Laplacian", 0)
    assert "bound the memory" in plan.reason
    np.testing.assert_allclose(quantity(lin), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fn", "mixes"),
    [
        (lambda xs: jnp.sin(xs.sum((1, 2))), True),
        (lambda xs: jnp.exp(jnp.sin(xs).sum((1, 2), keepdims=True)).sum((1, 2)), True),
        # Rows and columns: no entry sees all, and directions that share neither share a product.
        (lambda xs: jnp.sin(xs.sum(1)).sum(1) + jnp.sin(xs.sum(2)).sum(1), False),
        # All is seen together behind the last second derivative alone.
        (lambda xs: jnp.sin(xs).sum((1, 2)), False),
        (lambda xs: jnp.abs(jnp.sin(xs).sum((1, 2))), False),
    ],
)  # fmt: skip
def test_which_fields_mix_all_directions(fn, mixes):
    xs = jnp.ones((2, 3, 4))
    assert room(jax.make_jaxpr(fn)(xs).jaxpr, [xs.shape], 0).mixes == mixes


def test_rows_and_columns_that_do_not_fit_share_products(monkeypatch):
    """Parts would be as many as directions, colours are as many as a row and a column have."""

    def crossed(xs):
        return jnp.sin(xs.sum(1)).sum(1) + jnp.sin(xs.sum(2)).sum(1)

    xs = jnp.asarray(RNG.normal(size=(2, 4, 5)), jnp.float32)
    monkeypatch.setattr(_second_order, "_MOST_ENTRIES", 1)
    plan = jacreg.plan(jacreg.laplacian, jacreg.linearize(crossed, xs))
    assert (plan.path, plan.num_products) == ("colouring", 5)


def test_behind_a_way_that_costs_nothing_no_other_is_looked_for(monkeypatch):
    lin = jacreg.linearize(_energy(pooled), IMAGES)
    monkeypatch.setattr(jacreg._laplacian, "check_worth", None)
    assert jacreg.plan(jacreg.hessian_diagonal, lin).path == "forward Laplacian"


def test_a_call_needs_no_reason(monkeypatch):
    """What is followed for each direction is read for a plan alone."""
    lin = jacreg.linearize(_energy(attention), jnp.ones((2, 3, 4)))
    monkeypatch.setattr(_second_order, "first_followed", None)
    jacreg.laplacian(lin)
    with pytest.raises(TypeError):
        jacreg.plan(jacreg.laplacian, lin)


@pytest.mark.parametrize(("depth", "bent"), [(1, True), (2, True), (3, False)])
def test_a_closed_trace_of_convolutions_is_taken_unweighed(depth, bent, monkeypatch):
    """Nothing takes less time: no forward Laplacian is traced beside it."""
    lin = jacreg.linearize(_convolutions(depth, "zeros", bent=bent), IMAGES)
    monkeypatch.setattr(jacreg._second_order, "forward_laplacian", None)
    found = jacreg._laplacian.LAPLACIAN.decide(lin, jacreg.Auto())
    assert (found.path, found.num_products) == ("closed form", 0)
    np.testing.assert_allclose(found.run(None), jacreg.laplacian(lin, jacreg.Exact()), rtol=1e-4)


def test_a_weighted_laplacian_of_layers_is_weighed():
    """A direction has second derivatives of its own there: other ways may take less."""
    fn = _energy(lambda xs: jnp.tanh(jnp.tanh(xs @ MIX) @ MIX))
    way = jacreg._laplacian._laplacian(jnp.ones(VECTORS.shape[1:]))
    assert way.decide(jacreg.linearize(fn, VECTORS), jacreg.Auto()).cost > 0
