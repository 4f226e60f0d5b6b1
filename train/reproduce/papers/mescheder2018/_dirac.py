"""The Dirac-GAN: its gradient field, the field's eigenvalues, and gradient descent along it.

Data at 0, generator at theta, discriminator D(x) = psi x, f(t) = -log(1 + exp(-t)). The
discriminator climbs and the generator descends L = f(psi theta) + f(0). States are `(theta, psi)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from train.reproduce import Asked

if TYPE_CHECKING:
    from jaxtyping import Array, Complex, Float

SLOPE = 0.5  # f'(0)
CRITICAL = 2 * SLOPE
GAMMAS = tuple(round(0.1 * number, 1) for number in range(31))  # 0 is without R1
STEP = 0.1


def field(states: Float[Array, "N 2"], gammas: Float[Array, " N"]) -> Float[Array, "N 2"]:
    """Where the two players' gradients point: down L in theta, up L less R1 in psi."""
    theta, psi = states[:, :1], states[:, 1]
    data = jnp.zeros_like(theta)

    def value(theta: Any, psi: Any) -> Any:
        real, generated = _critic(data, psi), _critic(theta, psi)
        return jnp.sum(jax.nn.log_sigmoid(generated) + jax.nn.log_sigmoid(-real))

    def penalty(psi: Any) -> Any:
        norms = jacreg.losses.gradient_penalty(_critic, data, psi, target=0.0)
        return jnp.sum(gammas / 2 * norms)

    by_theta, by_psi = jax.grad(value, argnums=(0, 1))(theta, psi)
    return jnp.stack([-by_theta[:, 0], by_psi - jax.grad(penalty)(psi)], axis=1)


def _critic(xs: Float[Array, "N 1"], psi: Float[Array, " N"]) -> Float[Array, " N"]:
    return psi * xs[:, 0]


def simultaneous(states: Any, gammas: Any, step: Any) -> Float[Array, "N 2"]:
    """Both players step from the same state."""
    return states + jnp.reshape(step, (-1, 1)) * field(states, gammas)


def alternating(states: Any, gammas: Any, step: Any) -> Float[Array, "N 2"]:
    """The generator steps, then the discriminator from where that leads."""
    states = states.at[:, 0].add(step * field(states, gammas)[:, 0])
    return states.at[:, 1].add(step * field(states, gammas)[:, 1])


def derived(gammas: Any) -> Complex[np.ndarray, "N 2"]:
    """Eigenvalues at the equilibrium by our derivation: -g/2 +- sqrt(g^2/4 - f'(0)^2)."""
    half = np.asarray(gammas, complex) / 2
    root = np.sqrt(half**2 - SLOPE**2)
    return np.stack([-half + root, -half - root], axis=1)


def mismatch(found: Any, expected: Any) -> Float[np.ndarray, " N"]:
    """Largest distance between two pairs of eigenvalues, paired as they fit best."""
    pairs = (np.abs(found - expected), np.abs(found - np.asarray(expected)[:, ::-1]))
    return np.minimum(pairs[0].max(1), pairs[1].max(1))


def eigenvalues(asked: Asked, *, steps: Sequence[float]) -> Mapping[str, Any]:
    """Eigenvalues of the field, and of the updates without R1, by `jacreg.jacobian`."""
    with jax.enable_x64(True):
        found = _at_equilibrium(field, _weights(asked.broken))
        off = np.zeros(len(steps))
        updates = {
            each.__name__: np.abs(_at_equilibrium(each, off, np.asarray(steps))).max(1)
            for each in (simultaneous, alternating)
        }
    distances = mismatch(found, derived(GAMMAS))
    return {
        "real": np.real(found),
        "imaginary": np.imag(found),
        "least_damped": np.real(found).max(1)[1:].max(),
        "simultaneous": updates["simultaneous"].min() - 1,
        "alternating": np.abs(updates["alternating"] - 1).max(),
        **{f"mismatch/{gamma:g}": distances[GAMMAS.index(gamma)] for gamma in GAMMAS},
    }


def _at_equilibrium(fn: Callable[..., Any], *args: Any) -> Complex[np.ndarray, "N 2"]:
    states = jnp.zeros((len(args[0]), 2), jnp.float64)
    lin = jacreg.linearize(fn, states, *(jnp.asarray(each) for each in args))
    return np.linalg.eigvals(np.asarray(jacreg.jacobian(lin), np.float64)).astype(complex)


def paths(asked: Asked, *, count: int, steps: Sequence[float]) -> Mapping[str, Any]:
    """Descent from one start a seed: simultaneous over gamma and step, alternating without R1."""
    random = np.random.default_rng(asked.seed)
    angle, radius = random.uniform(0, 2 * np.pi), random.uniform(0.5, 1.5)
    start = radius * np.asarray([np.cos(angle), np.sin(angle)])
    weights = _weights(asked.broken)
    with jax.enable_x64(True):
        regularised = _walk(simultaneous, start, weights, STEP, count)
        off = np.zeros(len(steps))
        outwards = _walk(simultaneous, start, off, np.asarray(steps), count // 4)
        circle = _walk(alternating, start, off[:1], STEP, count)
    distances, spread = _norms(regularised) / radius, _norms(circle)[:, 0] / radius
    # From halfway on, where what is not linear in the field has died out.
    rates = np.log(distances[count // 2] / distances[-1]) / (count - count // 2)
    return {
        "regularised": regularised[: count // 4, [0, 5, 10, 20]],
        "circle": circle[: count // 4, 0],
        "rates": rates,
        "fastest": GAMMAS[1:][int(np.argmax(rates[1:]))],
        **{f"left/{gamma:g}": distances[-1, GAMMAS.index(gamma)] for gamma in GAMMAS},
        **{f"rate/{gamma:g}": rates[GAMMAS.index(gamma)] for gamma in GAMMAS},
        **{
            f"growth/{step:g}": value / radius
            for step, value in zip(steps, _norms(outwards)[-1], strict=True)
        },
        "nearest": spread.min(),
        "furthest": spread.max(),
    }


def _weights(broken: bool) -> Float[np.ndarray, " N"]:
    return np.zeros(len(GAMMAS)) if broken else np.asarray(GAMMAS)


def _walk(update: Any, start: Any, gammas: Any, step: Any, count: int) -> np.ndarray:
    """Return `[count + 1, N, 2]`, the start first."""
    begin = np.broadcast_to(start, (len(gammas), 2))
    after = _walked(update, count, begin, np.asarray(gammas), np.asarray(step))
    return np.concatenate([begin[None], np.asarray(after)])


@partial(jax.jit, static_argnums=(0, 1))
def _walked(update: Any, count: int, begin: Any, gammas: Any, step: Any) -> Any:
    def one(states: Any, _: None) -> Any:
        following = update(states, gammas, step)
        return following, following

    return jax.lax.scan(one, begin, None, length=count)[1]


def _norms(states: np.ndarray) -> np.ndarray:
    return np.linalg.norm(states, axis=-1)


def predicted_rates(gammas: Any = GAMMAS) -> Float[np.ndarray, " N"]:
    """-log of max |1 + h lambda|, a step, by the derived eigenvalues."""
    return -np.log(np.abs(1 + STEP * derived(gammas)).max(1))
