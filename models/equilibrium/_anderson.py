"""Anderson acceleration as an optimistix fixed-point solver."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree


class _State(eqx.Module):
    points: jax.Array
    images: jax.Array
    step: jax.Array
    residual: jax.Array


class Anderson(optx.AbstractFixedPointSolver):
    """Each step mixes the last `memory` images f(y) so that their mixed residual is least.

    Ends when norm(f(y) - y) <= tolerance * norm(f(y)), the criterion of deep equilibrium models.
    One evaluation a step. Source: Anderson 1965; Walker and Ni 2011.

    Attributes:
      rtol: the tolerance on the relative residual.
      memory: how many past points are mixed; 1 is the plain iteration.
      mixing: 1 takes mixed images; below 1 goes only so far from the mixed points.
      ridge: added to the diagonal of the normal equations, relative to their trace.
    """

    rtol: float
    atol: float = 0.0
    memory: int = 5
    mixing: float = 1.0
    ridge: float = 1e-6
    norm: Any = optx.two_norm

    def init(self, fn, y, args, options, f_struct, aux_struct, tags):
        """No points yet."""
        flat, _ = ravel_pytree(y)
        empty = jnp.zeros((self.memory, flat.size), flat.dtype)
        return _State(empty, empty, jnp.array(0), jnp.array(jnp.inf, flat.dtype))

    def step(self, fn, y, args, options, state, tags):
        """Evaluate at `y` and mix."""
        image, aux = fn(y, args)
        flat, unravel = ravel_pytree(y)
        flat_image = ravel_pytree(image)[0].astype(flat.dtype)
        slot = state.step % self.memory
        points = state.points.at[slot].set(flat)
        images = state.images.at[slot].set(flat_image)
        weights = self._weights(images - points, state.step)
        mixed = weights @ (self.mixing * images + (1 - self.mixing) * points)
        residual = jnp.linalg.norm(flat_image - flat) / (jnp.linalg.norm(flat_image) + 1e-9)
        # At the end the image itself: it is closer than the point that was tested.
        new = jnp.where(residual <= self.rtol, flat_image, mixed)
        return unravel(new), _State(points, images, state.step + 1, residual), aux

    def _weights(self, residuals, step):
        """The weights, summing to 1, of the smallest combination of the residuals so far."""
        used = jnp.arange(self.memory) <= step
        gram = residuals @ residuals.T
        scale = jnp.trace(gram) + jnp.finfo(gram.dtype).tiny
        gram = gram / scale + self.ridge * jnp.eye(self.memory, dtype=gram.dtype)
        # Slots that are still empty get a row of the identity and with it the weight 0.
        both = used[:, None] & used[None, :]
        gram = jnp.where(both, gram, jnp.eye(self.memory, dtype=gram.dtype))
        weights = jnp.linalg.solve(gram, used.astype(gram.dtype)) * used
        return weights / jnp.sum(weights)

    def terminate(self, fn, y, args, options, state, tags):
        """Whether the last residual is small enough."""
        return state.residual <= self.rtol, optx.RESULTS.successful

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        """The point as it is."""
        return y, aux, {}
