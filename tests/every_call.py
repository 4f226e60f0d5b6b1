"""Every public call of jacreg and jacreg.losses on one small network, by name.

What holds for all of them (scales, devices, JAX's options, export) is tested over this table.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from jacreg import losses

SIZE = 4
RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(SIZE, SIZE)) / SIZE**0.5
WIDE = RNG.normal(size=(SIZE, 3)) / SIZE**0.5
LARGE = RNG.normal(size=(2 * SIZE, 2 * SIZE)) / SIZE**0.5
KERNEL = RNG.normal(size=(3, 1, 1))


@dataclass(frozen=True)
class Net:
    """Functions of a batch `[N, 4]`, each multiplied by `scale`, in the precision of the batch."""

    scale: Any = None

    def times(self, ys):
        if self.scale is None:
            return ys
        # An array of one entry: a scalar that is known would be a literal of the program.
        return ys * jnp.asarray(self.scale, ys.dtype).reshape((1,) * ys.ndim)

    def field(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(SQUARE, xs.dtype)))

    def eight(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(LARGE, xs.dtype)))

    def local(self, xs):
        images, kernel = xs[:, :, None], jnp.asarray(KERNEL, xs.dtype)
        found = jax.lax.conv_general_dilated(
            images, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return self.times(jnp.tanh(found)[:, :, 0])

    def classifier(self, xs):
        return self.times(jnp.tanh(xs @ jnp.asarray(WIDE, xs.dtype)))

    def images(self, xs):
        return self.times(jnp.tanh(2 * xs))

    def energy(self, xs):
        return self.times(jnp.sum(jnp.square(jnp.tanh(xs @ jnp.asarray(SQUARE, xs.dtype))), 1))

    def gradient(self, xs):
        return jax.grad(lambda xs: jnp.sum(self.energy(xs)))(xs)


@dataclass(frozen=True)
class Call:
    """One public call.

    Attributes:
        run: `(net, xs, key)` to a pytree; rows are examples unless `rows` says otherwise.
        degree: of the result in the scale of the net; "log of k" where the result is k times its
            logarithm more; None where it is neither.
        rows: whether each row of the result depends on the same row of the batch alone.
        small_ways: sizes at which jacreg changes its way, to be made small.
    """

    run: Callable[[Net, Any, Any], Any]
    degree: Any = None
    rows: bool = True
    small_ways: tuple[str, ...] = field(default=())

    def __call__(self, net, xs, key):
        """Run it."""
        with _SmallWays(self.small_ways):
            return self.run(net, xs, key)


class _SmallWays:
    """Sizes of modules (`"_spectral_norm._DENSE_SIDE"`) set to one while it is entered."""

    def __init__(self, names):
        self.patches = [patch(f"jacreg.{name}", 1) for name in names]

    def __enter__(self):
        for each in self.patches:
            each.start()

    def __exit__(self, *_):
        for each in self.patches:
            each.stop()


def linearized(name):
    return lambda net, xs: jacreg.linearize(getattr(net, name), xs)


FIELD, LOCAL, CLASSIFIER = linearized("field"), linearized("local"), linearized("classifier")


def IMAGES(net, xs):
    """From images to images."""
    return jacreg.linearize(net.images, xs.reshape(-1, 2, 2))


def EIGHT(net, xs):
    """More dimensions than the products of XTrace, which else takes the trace itself."""
    return jacreg.linearize(net.eight, jnp.concatenate([xs, 0.5 * xs], axis=1))


def of(lin, quantity, *args, keyed=False, degree=None, **how):
    """A call of a quantity on one Linearization."""

    def run(net, xs, key):
        options = {"key": key} if keyed else {}
        return quantity(lin(net, xs), *args, **options)

    return Call(run, degree, **how)


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
        yield f"{name} probing", of(LOCAL, quantity, jacreg.Probing(2), keyed=True, degree=1)
        yield f"{name} xtrace", of(EIGHT, quantity, jacreg.XTrace(4), keyed=True, degree=1)
        yield (
            f"{name} local",
            of(LOCAL, quantity, jacreg.Exact(chunk_size=1), degree=1),
        )
        yield f"{name} coloring", colored(quantity, "divergence", 1)
        yield f"{name} probing", of(LOCAL, quantity, jacreg.Probing(1), keyed=True, degree=1)


def _norms():
    for label, (method, keyed) in NORMS.items():
        yield (
            f"frobenius_squared {label}",
            of(
                EIGHT if label == "xrownorm" else CLASSIFIER,
                jacreg.frobenius_squared,
                method,
                keyed=keyed,
                degree=2,
            ),
        )
    yield "frobenius_squared coloring", colored(jacreg.frobenius_squared, "frobenius", 2)
    for label, method in (("xrownorm", jacreg.XRowNorm(6)), ("probing", jacreg.Probing(2))):
        yield (
            f"frobenius_squared {label}",
            of(EIGHT, jacreg.frobenius_squared, method, keyed=True, degree=2),
        )
    yield "frobenius_squared auto", of(CLASSIFIER, jacreg.frobenius_squared, degree=2)
    yield "frobenius_squared auto local", of(LOCAL, jacreg.frobenius_squared, degree=2)
    yield "frobenius_squared images", of(IMAGES, jacreg.frobenius_squared, jacreg.Exact(), degree=2)


def _error(net, xs, key):
    quantity = jacreg.with_standard_error(jacreg.frobenius_squared)
    return quantity(CLASSIFIER(net, xs), jacreg.Projection(3), key=key)


def _least(lin, key=None):
    return jacreg.least_stretch(lin, key=key).value


def _matching(net, xs, key):
    target = jnp.zeros((xs.shape[0], 3, SIZE), xs.dtype)
    return losses.jacobian_matching(CLASSIFIER(net, xs), target)


def _operator(net, xs, key):
    matrix = jnp.asarray(WIDE, xs.dtype)
    return jacreg.operator_norm(lambda x: net.times(x @ matrix), SIZE, key=key, dtype=xs.dtype)


def _bounded(dtype):
    """A map of two layers, a convolution in one of them."""
    first, second = jnp.asarray(SQUARE, dtype), jnp.asarray(KERNEL, dtype)

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
        params = {"w": jnp.asarray(WIDE, xs.dtype), "b": jnp.zeros(3, xs.dtype)}

        def apply(params, xs):
            return net.times(jnp.tanh(xs @ params["w"] + params["b"][None]))

        return jacreg.empirical_ntk(
            apply, params, xs, 0.5 * xs if others else None, trace_outputs=traced
        )

    return run


def _layers(net):
    return [Net().local, net.classifier]


def _noisy(net, xs, key):
    lins = [CLASSIFIER(net, xs), jacreg.linearize(net.classifier, 0.5 * xs)]
    return losses.gaussian_noise_regularizer(lins, [0.1, 0.2])


def _every_loss():
    return {
        "jacobian_penalty": of(CLASSIFIER, losses.jacobian_penalty, keyed=True, degree=2),
        "contractive_penalty": of(CLASSIFIER, losses.contractive_penalty, degree=2),
        "dense_contractive_penalty": Call(
            lambda net, xs, key: losses.dense_contractive_penalty(
                net.classifier(xs), jnp.asarray(WIDE, xs.dtype), "tanh"
            )
        ),
        "contractive_hessian_penalty": Call(
            lambda net, xs, key: losses.contractive_hessian_penalty(
                net.classifier, xs, scale=0.1, num_probes=2, key=key
            ),
            2,
        ),
        "noise_injection_penalty": Call(
            lambda net, xs, key: losses.noise_injection_penalty(
                net.classifier, xs, scale=0.25, key=key
            ),
            2,
        ),
        "gaussian_noise_regularizer": Call(_noisy, 2),
        "gaussian_noise_regularizer cross_entropy": Call(
            lambda net, xs, key: losses.gaussian_noise_regularizer(
                [CLASSIFIER(net, xs)], 0.1, loss="cross_entropy"
            )
        ),
        "implicit_score_matching": of(FIELD, losses.implicit_score_matching),
        "sliced_score_matching": of(FIELD, losses.sliced_score_matching, keyed=True),
        "sliced_score_matching general": Call(
            lambda net, xs, key: losses.sliced_score_matching(
                FIELD(net, xs), num_probes=2, variance_reduced=False, key=key
            )
        ),
        "denoising_score_matching": Call(
            lambda net, xs, key: losses.denoising_score_matching(net.field, xs, scale=0.5, key=key)
        ),
        "finite_difference_score_matching": Call(
            lambda net, xs, key: losses.finite_difference_score_matching(
                net.field, xs, scale=0.25, key=key
            )
        ),
        "flow_regularizers": Call(
            lambda net, xs, key: tuple(losses.flow_regularizers(FIELD(net, xs), xs)), (1, 2, 2)
        ),
        "equilibrium_jacobian_penalty": Call(
            lambda net, xs, key: losses.equilibrium_jacobian_penalty(net.field, xs, key=key), 2
        ),
        "free_form_flow_surrogate": Call(
            lambda net, xs, key: losses.free_form_flow_surrogate(
                net.field, lambda zs: jnp.sin(zs), xs, key=key
            )
        ),
        "mean_flow_loss": Call(
            lambda net, xs, key: losses.mean_flow_loss(
                lambda zs, r, t: net.field(zs * t[:, None]), xs, 2 * xs, 0.25, 0.5
            )
        ),
        "lyapunov_exponents": Call(
            lambda net, xs, key: losses.lyapunov_exponents(
                net.field, xs, num_exponents=2, num_steps=1, key=key
            ),
            "log of 1",
        ),
        "lyapunov_penalty": Call(
            lambda net, xs, key: losses.lyapunov_penalty(net.field, xs, num_steps=2, key=key)
        ),
        "nuclear_norm_penalty": Call(
            lambda net, xs, key: losses.nuclear_norm_penalty(
                net.classifier, lambda xs: jnp.sin(xs), xs, scale=0.25, key=key
            )
        ),
        "spectral_penalty": Call(
            lambda net, xs, key: losses.spectral_penalty(
                CLASSIFIER(net, xs), key=key, num_iterations=3
            ),
            1,
        ),
        "right_singular_vector": Call(
            lambda net, xs, key: losses.right_singular_vector(
                CLASSIFIER(net, xs), key=key, num_iterations=3
            ),
            0,
        ),
        "jacobian_matching": Call(_matching, 2),
        "layerwise_penalty": Call(
            lambda net, xs, key: losses.layerwise_penalty(_layers(net), xs), "log of 1"
        ),
        "lipschitz_margin_loss": Call(
            lambda net, xs, key: losses.lipschitz_margin_loss(
                net.classifier(xs), jnp.arange(xs.shape[0]) % 3, margin=0.5, temperature=2.0
            )
        ),
        "certified_radius": Call(
            lambda net, xs, key: losses.certified_radius(
                net.classifier(xs), jnp.argmax(net.classifier(xs), axis=1), lipschitz=2.0
            ),
            1,
        ),
        "gradient_penalty": Call(lambda net, xs, key: losses.gradient_penalty(net.energy, xs)),
        "gradient_penalty to zero": Call(
            lambda net, xs, key: losses.gradient_penalty(net.energy, xs, target=0.0), 2
        ),
        "gradient_penalty of patches": Call(
            lambda net, xs, key: losses.gradient_penalty(
                net.classifier, xs, target=0.0, reduction="mean"
            ),
            2,
        ),
        "loss_gradient_penalty": Call(
            lambda net, xs, key: losses.loss_gradient_penalty(
                lambda xs, labels: net.energy(xs) * labels, xs, jnp.ones_like(xs[:, 0])
            ),
            2,
        ),
        "cross_lipschitz_penalty": of(CLASSIFIER, losses.cross_lipschitz_penalty, degree=2),
        "curvature_penalty": Call(
            lambda net, xs, key: losses.curvature_penalty(
                lambda xs, labels: net.energy(xs) * labels, xs, jnp.ones_like(xs[:, 0]), step=0.25
            ),
            2,
        ),
        "gradient_alignment_penalty": Call(
            lambda net, xs, key: losses.gradient_alignment_penalty(
                lambda xs, labels: net.energy(xs) * labels, xs, jnp.ones_like(xs[:, 0]),
                radius=0.25, key=key,
            ),
            0,
        ),
        "path_length_penalty": Call(
            lambda net, xs, key: losses.path_length_penalty(
                net.images, xs.reshape(-1, 2, 2), key=key, mean=0.0
            ),
            2,
        ),
        "path_lengths": Call(
            lambda net, xs, key: losses.path_lengths(net.images, xs.reshape(-1, 2, 2), key=key), 1
        ),
        "every": Call(lambda net, xs, key: losses.every(2)(jnp.int32(4)), 0, rows=False),
        "bernoulli": Call(
            lambda net, xs, key: losses.bernoulli(0.5, key=key)(jnp.int32(4)), 0, rows=False
        ),
        "ramp": Call(lambda net, xs, key: losses.ramp(0.0, 1.0, 4)(jnp.int32(2)), 0, rows=False),
        "subsample": Call(
            lambda net, xs, key: losses.subsample(net.field(xs), 0.5, key=key), 1, rows=False
        ),
    }  # fmt: skip


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
        lambda net, xs, key: jacreg.layerwise_log_frobenius(_layers(net), xs).total, "log of 1"
    ),
    "operator_norm": Call(_operator, 1, rows=False),
    "operator_norm_bound": Call(_operator_bound, 1, rows=False),
    "lipschitz_bound": Call(
        lambda net, xs, key: jacreg.lipschitz_bound([net.field, net.classifier], xs), 2, rows=False
    ),
    "empirical_ntk": Call(_kernel(True), 2, rows=False),
    "empirical_ntk of two": Call(_kernel(True, others=True), 2, rows=False),
    "empirical_ntk outputs": Call(_kernel(False), 2, rows=False),
    **_every_loss(),
}  # fmt: skip


def batch(num_examples=8, dtype=jnp.float32):
    """A batch `[N, 4]`."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(num_examples, SIZE)), dtype)
