"""A squared Jacobian norm by equally many products: what a method makes of the spectrum."""

from functools import partial

import jax
import jax.numpy as jnp

import jacreg

KEYS = jax.random.split(jax.random.key(0), 64)
XS = jax.random.normal(KEYS[0], (2, 96))
LEFT, RIGHT = (jnp.linalg.qr(jax.random.normal(key, (96, 96)))[0] for key in KEYS[1:3])
METHODS = [jacreg.Projection(24), jacreg.XRowNorm(24), jacreg.Probing(24)]


def falling(xs):
    """Singular values 1, 1/2, 1/3, ..."""
    return (xs @ RIGHT / jnp.arange(1, 97)) @ LEFT


def local(xs):
    """Each entry sees its neighbours strongly, those up to thirty away weakly."""
    return sum(jnp.roll(xs, i, axis=1) / (1 + i) ** 2 for i in range(30))


def sampled(lin, method, key):
    """One estimate an example."""
    return jacreg.frobenius_squared(lin, method, key=key)


errors = {}
for fn in (falling, local):
    lin = jacreg.linearize(fn, XS)
    for method in METHODS:
        found = jax.lax.map(partial(sampled, lin, method), KEYS)
        error = errors[fn.__name__, type(method).__name__] = float(
            (found / jacreg.frobenius_squared(lin)).std()
        )
        print(f"{fn.__name__:8} {type(method).__name__:12} {100 * error:6.2f} %")
