"""Conformance rows of adapters and layers: each framework's, by their dense Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
from conformance_rows import KEY, Row, dense, points

import jacreg

SINGLE = {"rtol": 1e-3}  # SpectralNormalized iterates to this


def _images(layout):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(2, 2, 4, 4) if layout == "NCHW" else (2, 4, 4, 2)))


def _jacobians(fn, xs):
    """What jacreg reads of a layer against its dense Jacobians; these are kept."""

    @jax.jit
    def read(xs):
        lin = jacreg.linearize(fn, xs)
        return jacreg.jacobian(lin), jacreg.frobenius_squared(lin)

    matrices, (found, squared) = dense(fn, xs), read(xs)
    return matrices, [
        (np.asarray(found).reshape(matrices.shape), matrices),
        (squared, np.square(matrices).sum((1, 2))),
    ]


def _norms(matrices):
    return np.linalg.norm(matrices, 2, axis=(1, 2))


def at_most_one(make, xs):
    """A row of a 1-Lipschitz layer."""

    def row():
        matrices, rows = _jacobians(make(), xs())
        yield from rows
        yield np.maximum(_norms(matrices), 1), np.ones(len(matrices))

    return row


def isometry(make, xs):
    """A row of a layer whose singular values are all one."""

    def row():
        matrices, rows = _jacobians(make(), xs())
        yield from rows
        yield np.linalg.svd(matrices, compute_uv=False), np.ones(matrices.shape[:2])

    return row


def norm_one(make, xs):
    """A row of a layer of norm one, to the tolerance of its iteration."""

    def row():
        matrices, rows = _jacobians(make(), xs())
        yield from rows
        yield _norms(matrices), np.ones(len(matrices)), SINGLE["rtol"]

    return row


def differential(make):
    """A row of a layer that returns its own Jacobian."""

    def row():
        layer = make()
        values, jacobian = jax.jit(layer)(points())
        yield jacobian, dense(lambda xs: layer(xs)[0], points())
        yield values, jax.jit(lambda xs: layer(xs)[0])(points())

    return row


def noise(make):
    """A row of noise: off by itself, and one draw at every call with a key."""

    def row():
        quiet, loud = make(None), make(KEY)
        yield quiet(points()), points()
        yield loud(points()), loud(points())
        yield dense(loud, points()), np.tile(np.eye(3), (2, 1, 1))
        yield bool((loud(points()) == points()).any()), False

    return row


def tracked(make):
    """A row of the norms along a chain."""

    def row():
        ys, per_layer = make(jnp.sin, jnp.cos)
        yield ys, np.cos(np.sin(points()))
        slopes = np.cos(points()), -np.sin(np.sin(points()))
        truth = [0.5 * np.log(np.square(slope).sum(1)) for slope in slopes]
        yield per_layer, truth

    return row


def sequential(make):
    """A row of a bound along a chain: the product, never below the norm."""

    def row():
        fn, bound = make()
        matrices, rows = _jacobians(fn, points())
        yield from rows
        yield np.maximum(_norms(matrices), bound()), np.full(2, bound())
        yield bound(), 3.0, 1e-4

    return row


def adapter(make):
    """A row of a model as a function: its evaluation pass, by both adapters."""

    def row():
        direct, function, functional = make()
        yield function(points()), direct
        _, rows = _jacobians(function, points())
        yield from rows
        ys, _ = functional.apply(functional.params, functional.state, points())
        yield ys, direct

    return row


def nnx_rows() -> dict[str, Row]:
    """Of Flax nnx."""
    from flax import nnx

    import jacreg.nnx as a

    double = {"param_dtype": jnp.float64}

    def rngs():
        return nnx.Rngs(0, noise=1)

    def images():
        return _images("NHWC")

    def model():
        net = nnx.Sequential(
            nnx.Linear(3, 4, rngs=rngs(), **double), nnx.BatchNorm(4, rngs=rngs(), **double),
            nnx.Dropout(0.5, rngs=rngs()), nnx.tanh,
        )  # fmt: skip
        net.eval()
        return net(points()), a.function(net), a.functional(net)

    def chain():
        net = a.LipschitzSequential(
            [a.SLLDense(3, rngs=rngs(), **double), lambda xs: 3 * xs], in_shape=(3,)
        )
        return net, lambda: float(net.lipschitz_bound())

    def track(*layers):
        ys, norms = a.JacobianTracked(*layers)(points())
        return ys, norms.per_layer

    def spectral():
        layer = nnx.Linear(3, 2, rngs=rngs(), **double)
        return a.function(a.SpectralNormalized(layer, in_shape=3, key=KEY))

    def fixed():
        return a.fixed_kernels(a.OrthogonalDense(3, 2, rngs=rngs(), **double))

    def noisy(key):
        return a.function(a.GaussianNoise(0.1, rngs=rngs()), dropout_key=key)

    return {
        "AOLConv": at_most_one(lambda: a.AOLConv(2, 3, 3, rngs=rngs(), **double), images),
        "DifferentialDense": differential(lambda: a.DifferentialDense(3, 2, rngs=rngs(), **double)),
        "DifferentialMLP": differential(
            lambda: a.DifferentialMLP(3, 2, hidden_features=(4,), rngs=rngs(), **double)
        ),
        "GaussianNoise": noise(noisy),
        "GroupSort": isometry(lambda: a.GroupSort(3), points),
        "JacobianTracked": tracked(track),
        "LipschitzSequential": sequential(chain),
        "MaxMin": isometry(lambda: a.MaxMin(), images),
        "OrthogonalDense": isometry(lambda: a.OrthogonalDense(3, 2, rngs=rngs(), **double), points),
        "SLLConv": at_most_one(lambda: a.SLLConv(2, 3, rngs=rngs(), **double), images),
        "SLLDense": at_most_one(lambda: a.SLLDense(3, rngs=rngs(), **double), points),
        "SpectralNormalized": norm_one(spectral, points),
        "fixed_kernels": isometry(fixed, points),
        "function": adapter(model),
        "functional": adapter(model),
    }


def linen_rows() -> dict[str, Row]:
    """Of Flax linen."""
    from flax import linen

    import jacreg.linen as a

    double = {"param_dtype": jnp.float64}

    def bound(layer, xs):
        return a.function(layer, layer.init(KEY, xs))

    def model():
        class Net(linen.Module):
            @linen.compact
            def __call__(self, xs, train=False):
                xs = linen.Dense(4, **double)(xs)
                xs = linen.BatchNorm(use_running_average=not train, **double)(xs)
                return linen.tanh(linen.Dropout(0.5, deterministic=not train)(xs))

        net = Net()
        variables = net.init(KEY, points())
        return (
            net.apply(variables, points()),
            a.function(net, variables),
            a.functional(net, variables),
        )

    def spectral():
        layer = a.SpectralNormalized(linen.Dense(2, **double))
        return a.function(layer, layer.init(KEY, points(), use_running_average=False))

    return {
        "GaussianNoise": noise(lambda key: a.function(a.GaussianNoise(0.1), {}, dropout_key=key)),
        "GroupSort": isometry(lambda: bound(a.GroupSort(3), points()), points),
        "MaxMin": isometry(lambda: bound(a.MaxMin(), _images("NHWC")), lambda: _images("NHWC")),
        "OrthogonalDense": isometry(
            lambda: bound(a.OrthogonalDense(3, 2, **double), points()), points
        ),
        "SpectralNormalized": norm_one(spectral, points),
        "function": adapter(model),
        "functional": adapter(model),
    }


def eqx_rows() -> dict[str, Row]:
    """Of Equinox."""
    import equinox as eqx

    import jacreg.eqx as a

    def images():
        return _images("NCHW")

    def model():
        class Net(eqx.Module):
            linear: eqx.nn.Linear
            norm: eqx.nn.BatchNorm
            dropout: eqx.nn.Dropout

            def __init__(self, key):
                self.linear = eqx.nn.Linear(3, 4, key=key)
                self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch")
                self.dropout = eqx.nn.Dropout(0.5)

            def __call__(self, x, state, *, key=None):
                x, state = self.norm(self.linear(x), state)
                return jnp.tanh(self.dropout(x, key=key)), state

        net, state = eqx.nn.make_with_state(Net)(KEY)
        quiet = eqx.nn.inference_mode(net)
        direct = jax.vmap(lambda x: quiet(x, state)[0])(points())
        return direct, a.function(net, state), a.functional(net, state)

    def chain():
        net = a.LipschitzSequential([a.SLLDense(3, key=KEY), lambda x: 3 * x], in_shape=(3,))
        return jax.vmap(net), lambda: float(net.lipschitz_bound())

    def track(*layers):
        ys, norms = jax.vmap(a.JacobianTracked(*layers))(points())
        return ys, norms.per_layer.T

    def spectral():
        layer = eqx.nn.Linear(3, 2, key=KEY)
        make = eqx.nn.make_with_state(a.SpectralNormalized)
        return a.function(*make(layer, in_shape=3, key=KEY))

    def mapped(make):
        return lambda: jax.vmap(make())

    return {
        "AOLConv": at_most_one(mapped(lambda: a.AOLConv(2, 3, 3, key=KEY)), images),
        "DifferentialDense": differential(mapped(lambda: a.DifferentialDense(3, 2, key=KEY))),
        "DifferentialMLP": differential(mapped(lambda: a.DifferentialMLP(3, 2, 4, 1, key=KEY))),
        "GaussianNoise": noise(lambda key: a.function(a.GaussianNoise(0.1), dropout_key=key)),
        "GroupSort": isometry(mapped(lambda: a.GroupSort(3)), points),
        "JacobianTracked": tracked(track),
        "LipschitzSequential": sequential(chain),
        "MaxMin": isometry(mapped(lambda: a.MaxMin()), images),
        "OrthogonalDense": isometry(mapped(lambda: a.OrthogonalDense(3, 2, key=KEY)), points),
        "SLLConv": at_most_one(mapped(lambda: a.SLLConv(2, 3, key=KEY)), images),
        "SLLDense": at_most_one(mapped(lambda: a.SLLDense(3, key=KEY)), points),
        "SpectralNormalized": norm_one(spectral, points),
        "fixed_kernels": isometry(
            mapped(lambda: a.fixed_kernels(a.OrthogonalDense(3, 2, key=KEY))), points
        ),
        "function": adapter(model),
        "functional": adapter(model),
    }
