"""Three penalties on a loss near its inputs: CURE, GradAlign, cross-Lipschitz."""

import jax
import jax.numpy as jnp

import jacreg

KEYS = jax.random.split(jax.random.key(0), 4)
XS = jax.random.normal(KEYS[0], (200, 2))
LABELS = (jnp.sin(2 * XS[:, 0]) > XS[:, 1]).astype(int)
START = 2 * jax.random.normal(KEYS[1], (2, 32)), jax.random.normal(KEYS[2], (32, 2)) / 4


def terms(params):
    """Cross entropy and the penalties, one number an example each."""

    def logits(xs):
        return jnp.tanh(xs @ params[0]) @ params[1]

    def loss(xs, labels):
        return -jnp.sum(jax.nn.log_softmax(logits(xs)) * jax.nn.one_hot(labels, 2), axis=1)

    lin, more = jacreg.linearize(logits, XS), {"radius": 0.2, "key": KEYS[3]}
    return {
        "none": loss(XS, LABELS),
        "curvature": 0.1 * jacreg.losses.curvature_penalty(loss, XS, LABELS, step=0.2),
        "alignment": jacreg.losses.gradient_alignment_penalty(loss, XS, LABELS, **more),
        "cross-Lipschitz": 0.1 * jacreg.losses.cross_lipschitz_penalty(lin),
    }


found = {}
for name in terms(START):
    slope = jax.jit(jax.grad(lambda p, n=name: sum(terms(p)[each] for each in {"none", n}).mean()))
    params = START
    for _ in range(200):
        params = jax.tree.map(lambda a, b: a - 0.1 * b, params, slope(params))
    found[name] = {each: float(value.mean()) for each, value in terms(params).items()}
    print(f"trained with {name:16}", found[name])
