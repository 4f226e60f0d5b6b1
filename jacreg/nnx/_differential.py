"""Differential networks in nnx: value and Jacobian in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flax import nnx

from .._differential import check_activation, differential_dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class DifferentialDense(nnx.Module):
    """Dense layer and activation that carry (h, dh/dx) forward (Lutter et al. 2019).

    h' = phi(W h + b) and dh'/dx = diag(phi'(W h + b)) W dh/dx. Only a smooth activation
    gives a smooth Jacobian: "softplus", "tanh" and "cos" do, "relu" does not.

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> layer = jacreg.nnx.DifferentialDense(1, 1, activation="identity", rngs=nnx.Rngs(0))
        >>> ys, slopes = layer(jnp.array([[2.0]]))
        >>> bool(jnp.allclose(ys, 2 * slopes[:, :, 0]))
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "softplus",
        beta: float = 1.0,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        """Make the layer.

        Args:
            in_features: length of h.
            out_features: length of h'.
            activation: "relu", "softplus", "tanh", "cos" or "identity".
            beta: sharpness of softplus, log(1 + exp(beta z)) / beta.
            rngs: random streams for the parameters.
            **options: of the `nnx.Linear` inside, `kernel_init`, `param_dtype` and so on.

        Raises:
            ValueError: an unknown activation, or `beta` is not positive.
        """
        check_activation(activation, beta)
        self.linear = nnx.Linear(in_features, out_features, rngs=rngs, **options)
        self.activation = activation
        self.beta = beta

    def __call__(
        self,
        hs: Float[Array, "N in"],
        jacobian: Float[Array, " N in D"] | None = None,
    ) -> tuple[Float[Array, "N out"], Float[Array, "N out D"]]:
        """Return h' and dh'/dx; without a Jacobian h is x itself.

        Raises:
            ValueError: the Jacobian's shape does not fit.
        """
        kernel = self.linear.kernel[...]
        return differential_dense(self.linear(hs), kernel, jacobian, self.activation, self.beta)


class DifferentialMLP(nnx.Module):
    """Multilayer perceptron that returns (y, dy/dx), `[N, out]` and `[N, out, in]`.

    `dy/dx[i, j, k]` is the row-wise Jacobian dy[i, j] / dx[i, k], at about the price of
    `in` further forward passes and differentiable like any output, so that both can be
    fitted to data (Lutter et al. 2019).

    Example:
        >>> import jax.numpy as jnp, jacreg.nnx
        >>> from flax import nnx
        >>> net = jacreg.nnx.DifferentialMLP(3, 2, hidden_features=(4,), rngs=nnx.Rngs(0))
        >>> ys, jacobian = net(jnp.ones((1, 3)))
        >>> lin = jacreg.linearize(lambda xs: net(xs)[0], jnp.ones((1, 3)))
        >>> bool(jnp.allclose(jacobian, jacreg.jacobian(lin), rtol=1e-4))
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_features: Sequence[int] = (64, 64),
        activation: str = "softplus",
        beta: float = 1.0,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        """Make the network; the last layer is linear.

        Args:
            in_features: length of x.
            out_features: length of y.
            hidden_features: widths of the hidden layers.
            activation: of the hidden layers, as for `DifferentialDense`.
            beta: sharpness of softplus.
            rngs: random streams for the parameters.
            **options: of every `nnx.Linear` inside.

        Raises:
            ValueError: an unknown activation, or `beta` is not positive.
        """
        check_activation(activation, beta)
        widths = (in_features, *hidden_features, out_features)
        names = (activation,) * len(hidden_features) + ("identity",)
        self.layers = nnx.List(
            [
                DifferentialDense(before, after, activation=name, beta=beta, rngs=rngs, **options)
                for before, after, name in zip(widths[:-1], widths[1:], names, strict=True)
            ]
        )

    def __call__(
        self, xs: Float[Array, "N in"]
    ) -> tuple[Float[Array, "N out"], Float[Array, "N out in"]]:
        """Return y and dy/dx."""
        hs, jacobian = self.layers[0](xs)
        for layer in list(self.layers)[1:]:
            hs, jacobian = layer(hs, jacobian)
        return hs, jacobian
