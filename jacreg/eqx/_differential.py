"""Differential networks in Equinox: value and Jacobian in one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._differential import check_activation, differential_dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray


class DifferentialDense(eqx.Module):
    """Dense layer and activation that carry (h, dh/dx) forward (Lutter et al. 2019).

    h' = phi(W h + b) and dh'/dx = diag(phi'(W h + b)) W dh/dx. Only a smooth activation
    gives a smooth Jacobian: "softplus", "tanh" and "cos" do, "relu" does not.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> options = {"activation": "identity", "key": jax.random.key(0)}
        >>> layer = jacreg.eqx.DifferentialDense(1, 1, use_bias=False, **options)
        >>> y, slope = layer(jnp.array([2.0]))
        >>> bool(jnp.allclose(y, 2 * slope[:, 0]))
        True
    """

    linear: eqx.nn.Linear
    activation: str = eqx.field(static=True)
    beta: float = eqx.field(static=True)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "softplus",
        beta: float = 1.0,
        key: PRNGKeyArray,
        **options: Any,
    ) -> None:
        """Make the layer.

        Args:
            in_features: length of h.
            out_features: length of h'.
            activation: "relu", "softplus", "tanh", "cos" or "identity".
            beta: sharpness of softplus, log(1 + exp(beta z)) / beta.
            key: for the parameters.
            **options: of the `eqx.nn.Linear` inside, `use_bias` and `dtype`.

        Raises:
            ValueError: an unknown activation, or `beta` is not positive.
        """
        check_activation(activation, beta)
        self.linear = eqx.nn.Linear(in_features, out_features, key=key, **options)
        self.activation = activation
        self.beta = beta

    def __call__(
        self,
        h: Float[Array, " in"],
        jacobian: Float[Array, "in D"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, " out"], Float[Array, "out D"]]:
        """Return h' and dh'/dx of one example; without a Jacobian h is x itself.

        Raises:
            ValueError: the Jacobian's shape does not fit.
        """
        del key
        kernel = jnp.swapaxes(self.linear.weight, 0, 1)
        return differential_dense(self.linear(h), kernel, jacobian, self.activation, self.beta)


class DifferentialMLP(eqx.Module):
    """Multilayer perceptron that returns (y, dy/dx), `[out]` and `[out, in]`.

    At about the price of `in` further forward passes, and differentiable like any
    output, so that both can be fitted to data (Lutter et al. 2019). `jax.vmap` it over a
    batch: then `dy/dx[i, j, k]` is the row-wise Jacobian dy[i, j] / dx[i, k].

    Example:
        >>> import jax, jax.numpy as jnp, jacreg.eqx
        >>> net = jacreg.eqx.DifferentialMLP(3, 2, 4, 1, key=jax.random.key(0))
        >>> y, jacobian = net(jnp.ones(3))
        >>> dense = jax.jacobian(lambda x: net(x)[0])(jnp.ones(3))
        >>> bool(jnp.allclose(jacobian, dense, rtol=1e-4))
        True
    """

    layers: tuple[DifferentialDense, ...]

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width_size: int = 64,
        depth: int = 2,
        *,
        activation: str = "softplus",
        beta: float = 1.0,
        key: PRNGKeyArray,
        **options: Any,
    ) -> None:
        """Make the network; the last layer is linear.

        Args:
            in_size: length of x.
            out_size: length of y.
            width_size: width of the hidden layers.
            depth: number of hidden layers, as in `eqx.nn.MLP`.
            activation: of the hidden layers, as for `DifferentialDense`.
            beta: sharpness of softplus.
            key: for the parameters.
            **options: of every `eqx.nn.Linear` inside.

        Raises:
            ValueError: an unknown activation, or `beta` is not positive.
        """
        check_activation(activation, beta)
        widths = (in_size, *(width_size,) * depth, out_size)
        names = (activation,) * depth + ("identity",)
        keys = jax.random.split(key, depth + 1)
        self.layers = tuple(
            DifferentialDense(before, after, activation=name, beta=beta, key=k, **options)
            for before, after, name, k in zip(widths[:-1], widths[1:], names, keys, strict=True)
        )

    def __call__(
        self, x: Float[Array, " in"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " out"], Float[Array, "out in"]]:
        """Return y and dy/dx of one example."""
        del key
        h, jacobian = self.layers[0](x)
        for layer in self.layers[1:]:
            h, jacobian = layer(h, jacobian)
        return h, jacobian
