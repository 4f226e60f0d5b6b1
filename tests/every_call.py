"""Every public call of jacreg and jacreg.losses on one small network, by name.

What holds for all of them (scales, devices, JAX's options, export) is tested over this table.
"""

import functools

import call_nets
import jax
import jax.numpy as jnp
import numpy as np
from call_nets import CLASSIFIER, EIGHT, FIELD, IMAGES, LOCAL, SIZE, Call, Net, of
from every_loss import LOSSES, layers

import jacreg


@functools.cache
def color_local(kind, scaled, dtype):
    net, xs = Net(jnp.ones(1, dtype) if scaled else None), jnp.ones((2, SIZE), dtype)
    return jacreg.color(net.local, xs, quantity=kind)


def prepare(dtype=jnp.float32):
    """Make the colourings, which a trace cannot."""
    for kind in ("divergence", "frobenius"):
        for scaled in (False, True):
            color_local(kind, scaled, jnp.dtype(dtype))


prepare()


def colored(quantity, kind, degree):
    """A call by a colouring, which was made before."""

    def run(net, xs, key):
        return quantity(LOCAL(net, xs), color_local(kind, net.scale is not None, xs.dtype))

    return Call(run, degree)


TRACES = {
    "exact": (jacreg.Exact(), False),
    "chunks": (jacreg.Exact(chunk_size=2), False),
    "hutchinson": (jacreg.Hutchinson(3), True),
    "hutch++": (jacreg.HutchPlusPlus(3), True),
}
NORMS = {
    "exact": (jacreg.Exact(), False),
    "sphere": (jacreg.Projection(), True),
    "forward": (jacreg.Projection(2, mode="forward", distribution="gaussian"), True),
    "xrownorm": (jacreg.XRowNorm(6), True),
    "probing": (jacreg.Probing(2), True),
    "noise": (jacreg.NoiseInjection(0.25), True),
    "coupled": (jacreg.CoupledBatch(2), True),
}


def _traces():
    for quantity in (jacreg.divergence, jacreg.diagonal):
        name = quantity.__name__
        for label, (method, keyed) in TRACES.items():
            yield (
                f"{name} {label}",
                of(EIGHT if label == "hutch++" else FIELD, quantity, method, keyed=keyed, degree=1),
            )
        yield f"{name} auto", of(FIELD, quantity, degree=1)
        yield f"{name} auto local", of(LOCAL, quantity, degree=1)
        yield f"{name} probing", of(LOCAL, quantity, jacreg.Probing(1), keyed=True, degree=1)
        yield f"{name} xtrace", of(EIGHT, quantity, jacreg.XTrace(4), keyed=True, degree=1)
        yield (
            f"{name} local",
            of(LOCAL, quantity, jacreg.Exact(chunk_size=1), degree=1),
        )
        yield f"{name} coloring", colored(quantity, "divergence", 1)


def _norms():
    for label, (method, keyed) in NORMS.items():
        lin = EIGHT if label in ("xrownorm", "probing") else CLASSIFIER
        call = of(lin, jacreg.frobenius_squared, method, keyed=keyed, degree=2)
        yield f"frobenius_squared {label}", call
    yield "frobenius_squared coloring", colored(jacreg.frobenius_squared, "frobenius", 2)
    yield "frobenius_squared auto", of(CLASSIFIER, jacreg.frobenius_squared, degree=2)
    yield "frobenius_squared auto local", of(LOCAL, jacreg.frobenius_squared, degree=2)
    yield "frobenius_squared images", of(IMAGES, jacreg.frobenius_squared, jacreg.Exact(), degree=2)


def _error(net, xs, key):
    quantity = jacreg.with_standard_error(jacreg.frobenius_squared)
    return quantity(CLASSIFIER(net, xs), jacreg.Projection(3), key=key)


def _least(lin, key=None):
    return jacreg.least_stretch(lin, key=key).value


def _operator(net, xs, key):
    matrix = jnp.asarray(call_nets.WIDE, xs.dtype)
    return jacreg.operator_norm(lambda x: net.times(x @ matrix), SIZE, key=key, dtype=xs.dtype)


def _bounded(dtype):
    """A map of two layers, a convolution in one of them."""
    first, second = jnp.asarray(call_nets.SQUARE, dtype), jnp.asarray(call_nets.KERNEL, dtype)

    def linear_map(net, x):
        images = (x @ first)[None, :, None]
        found = jax.lax.conv_general_dilated(
            images, second, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return net.times(found[0, :, 0])

    return linear_map


def _operator_bound(net, xs, key):
    linear_map = _bounded(xs.dtype)
    return jacreg.operator_norm_bound(lambda x: linear_map(net, x), SIZE, dtype=xs.dtype)


def _kernel(traced, others=None):
    def run(net, xs, key):
        params = {"w": jnp.asarray(call_nets.WIDE, xs.dtype), "b": jnp.zeros(3, xs.dtype)}

        def apply(params, xs):
            return net.times(jnp.tanh(xs @ params["w"] + params["b"][None]))

        return jacreg.empirical_ntk(
            apply, params, xs, 0.5 * xs if others else None, trace_outputs=traced
        )

    return run


CALLS: dict[str, Call] = {
    "linearize": Call(lambda net, xs, key: (FIELD(net, xs).value, FIELD(net, xs).jvp(xs)), 1),
    "jacobian": of(CLASSIFIER, jacreg.jacobian, degree=1),
    "jacobian sparse": Call(
        lambda net, xs, key: jacreg.jacobian(LOCAL(net, xs), sparse=True).data, 1
    ),
    "jacobian images": of(IMAGES, jacreg.jacobian, degree=1),
    "jacobian local": of(LOCAL, jacreg.jacobian, jacreg.Exact(chunk_size=2), degree=1),
    "jacobian coloring": colored(jacreg.jacobian, "frobenius", 1),
    **dict(_traces()),
    **dict(_norms()),
    "with_standard_error": Call(_error, 2),
    "with_standard_error xtrace": of(
        EIGHT, jacreg.with_standard_error(jacreg.divergence), jacreg.XTrace(4), keyed=True, degree=1
    ),
    "spectral_norm": of(CLASSIFIER, jacreg.spectral_norm, keyed=True, degree=1),
    "spectral_norm lanczos": of(
        CLASSIFIER, jacreg.spectral_norm, keyed=True, degree=1,
        small_ways=("_spectral_norm._DENSE_SIDE",),
    ),
    "least_stretch": of(FIELD, _least, keyed=True, degree=1),
    "spectral_radius": of(FIELD, jacreg.spectral_radius, keyed=True, degree=1),
    "spectral_radius arnoldi": of(
        FIELD, jacreg.spectral_radius, keyed=True, degree=1,
        small_ways=("_spectral_radius._DENSE_SIZE", "_spectral_radius._FALLBACK_SIZE"),
    ),
    "spectral_norm images": of(IMAGES, jacreg.spectral_norm, keyed=True, degree=1),
    "gram": of(CLASSIFIER, jacreg.gram, degree=2),
    "gram chunks": of(CLASSIFIER, jacreg.gram, None, jacreg.Exact(chunk_size=2), degree=2),
    "gram images": of(IMAGES, jacreg.gram, degree=2),
    "gram of two": Call(lambda net, xs, key: jacreg.gram(FIELD(net, xs), CLASSIFIER(net, xs)), 2),
    "log_pseudo_determinant": of(CLASSIFIER, jacreg.log_pseudo_determinant, degree="log of 3"),
    "log_pseudo_determinant lanczos": of(
        CLASSIFIER, jacreg.log_pseudo_determinant, jacreg.Lanczos(2, 3), keyed=True,
        degree="log of 3",
    ),
    "log_determinant": Call(
        lambda net, xs, key: jacreg.log_determinant(
            jacreg.linearize(lambda xs: 0.3 * net.field(xs), xs), key=key
        )
    ),
    "laplacian": Call(lambda net, xs, key: jacreg.laplacian(jacreg.linearize(net.energy, xs)), 1),
    "laplacian weighted": Call(
        lambda net, xs, key: jacreg.laplacian(
            jacreg.linearize(net.energy, xs), weights=jnp.linspace(1, 2, xs.shape[1])
        ),
        1,
    ),
    "laplacian hutchinson": Call(
        lambda net, xs, key: jacreg.laplacian(
            jacreg.linearize(net.energy, xs), jacreg.Hutchinson(2), key=key
        ),
        1,
    ),
    **{
        f"laplacian {label}": Call(
            lambda net, xs, key, method=method: jacreg.laplacian(
                jacreg.linearize(net.energy, xs), method, key=key
            ),
            1,
        )
        for label, method in (("exact", jacreg.Exact()), ("chunks", jacreg.Exact(chunk_size=3)))
    },
    "hessian_diagonal hutchinson": Call(
        lambda net, xs, key: jacreg.hessian_diagonal(
            jacreg.linearize(net.energy, xs), jacreg.Hutchinson(2), key=key
        ),
        1,
    ),
    "hessian_diagonal": Call(
        lambda net, xs, key: jacreg.hessian_diagonal(jacreg.linearize(net.energy, xs)).sum(1), 1
    ),
    "layerwise_log_frobenius": Call(
        lambda net, xs, key: jacreg.layerwise_log_frobenius(layers(net), xs).total, "log of 1"
    ),
    "operator_norm": Call(_operator, 1, rows=False),
    "operator_norm_bound": Call(_operator_bound, 1, rows=False),
    "lipschitz_bound": Call(
        lambda net, xs, key: jacreg.lipschitz_bound([net.field, net.classifier], xs), 2, rows=False
    ),
    "empirical_ntk": Call(_kernel(True), 2, rows=False),
    "empirical_ntk of two": Call(_kernel(True, others=True), 2, rows=False),
    "empirical_ntk outputs": Call(_kernel(False), 2, rows=False),
    **LOSSES,
}  # fmt: skip


def batch(num_examples=8, dtype=jnp.float32):
    """A batch `[N, 4]`."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(num_examples, SIZE)), dtype)
