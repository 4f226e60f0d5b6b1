"""Every public call of jacreg.losses on one small network, by name."""

import call_nets
import jax.numpy as jnp
from call_nets import CLASSIFIER, FIELD, SIZE, Call, Net, of

import jacreg
from jacreg import losses


def _matching(net, xs, key):
    target = jnp.zeros((xs.shape[0], 3, SIZE), xs.dtype)
    return losses.jacobian_matching(CLASSIFIER(net, xs), target)


def layers(net):
    return [Net().local, net.classifier]


def _noisy(net, xs, key):
    lins = [CLASSIFIER(net, xs), jacreg.linearize(net.classifier, 0.5 * xs)]
    return losses.gaussian_noise_regularizer(lins, [0.1, 0.2])


LOSSES: dict[str, Call] = {
    "jacobian_penalty": of(CLASSIFIER, losses.jacobian_penalty, keyed=True, degree=2),
    "contractive_penalty": of(CLASSIFIER, losses.contractive_penalty, degree=2),
    "dense_contractive_penalty": Call(
        lambda net, xs, key: losses.dense_contractive_penalty(
            net.classifier(xs), jnp.asarray(call_nets.WIDE, xs.dtype), "tanh"
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
        lambda net, xs, key: losses.layerwise_penalty(layers(net), xs), "log of 1"
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
