"""One call of every public name on a tiny input: what `make check` runs before a commit.

A row is a name as a user writes it and a function without arguments that uses it once. What a
number should be is the business of the other tests; here a name that does not import, has another
signature than its page says, or raises, is seen within seconds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jacreg
from jacreg import losses

KEY = jax.random.key(0)
XS = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
LABELS = jnp.array([0, 2])
WEIGHTS = jnp.array([[0.5, 0.1, 0.0], [0.2, -0.4, 0.3], [0.0, 0.6, 0.7]])


def field(xs: Any) -> Any:
    """`[N, 3] -> [N, 3]`."""
    return jnp.tanh(xs @ WEIGHTS)


def energy(xs: Any) -> Any:
    """`[N, 3] -> [N]`."""
    return jnp.sum(jnp.tanh(xs @ WEIGHTS) ** 2, axis=1)


def squares(xs: Any, labels: Any) -> Any:
    """`[N, 3], [N] -> [N]`."""
    return jnp.sum((field(xs) - labels[:, None]) ** 2, axis=1)


def lin() -> Any:
    """Of a square network."""
    return jacreg.linearize(field, XS)


def scalar() -> Any:
    """Of a scalar field."""
    return jacreg.linearize(energy, XS)


def raised(error: type[Exception], call: Callable[[], Any]) -> Exception:
    """The error that a call raises."""
    try:
        call()
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__}")


def coloring() -> Any:
    """For divergences of a local function."""
    return jacreg.color(lambda xs: xs + jnp.roll(xs, 1, axis=1) ** 2, XS)


def forward_only() -> Any:
    """A Linearization without reverse mode."""

    def fn(xs: Any) -> Any:
        return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] ** 2), (0, xs))[1]

    return jacreg.linearize(fn, XS)


LIBRARY: dict[str, Callable[[], Any]] = {
    "Auto": lambda: jacreg.divergence(lin(), jacreg.Auto()),
    "Coloring": lambda: isinstance(coloring(), jacreg.Coloring),
    "ColoringError": lambda: raised(
        jacreg.ColoringError, lambda: jacreg.divergence(lin(), coloring())
    ),
    "CoupledBatch": lambda: jacreg.frobenius_squared(lin(), jacreg.CoupledBatch(), key=KEY),
    "DirectionError": lambda: raised(jacreg.DirectionError, lambda: forward_only().vjp(XS)),
    "Directions": lambda: isinstance(lin().directions, jacreg.Directions),
    "Exact": lambda: jacreg.diagonal(lin(), jacreg.Exact(chunk_size=2)),
    "HutchPlusPlus": lambda: jacreg.divergence(lin(), jacreg.HutchPlusPlus(3), key=KEY),
    "Hutchinson": lambda: jacreg.divergence(lin(), jacreg.Hutchinson(2), key=KEY),
    "Lanczos": lambda: jacreg.log_pseudo_determinant(lin(), jacreg.Lanczos(3), key=KEY),
    "LeastStretch": lambda: isinstance(jacreg.least_stretch(lin(), key=KEY), jacreg.LeastStretch),
    "LayerwiseLogFrobenius": lambda: isinstance(
        jacreg.layerwise_log_frobenius([field], XS), jacreg.LayerwiseLogFrobenius
    ),
    "Linearization": lambda: isinstance(lin(), jacreg.Linearization),
    "NoiseInjection": lambda: jacreg.frobenius_squared(lin(), jacreg.NoiseInjection(1e-2), key=KEY),
    "Plan": lambda: isinstance(jacreg.plan(jacreg.divergence, lin()), jacreg.Plan),
    "Probing": lambda: jacreg.divergence(lin(), jacreg.Probing(2), key=KEY),
    "Projection": lambda: jacreg.frobenius_squared(lin(), jacreg.Projection(2), key=KEY),
    "XRowNorm": lambda: jacreg.frobenius_squared(lin(), jacreg.XRowNorm(6), key=KEY),
    "XTrace": lambda: jacreg.divergence(lin(), jacreg.XTrace(4), key=KEY),
    "choose": lambda: jacreg.choose(field, XS, quantity=jacreg.divergence, budget=3),
    "color": coloring,
    "diagonal": lambda: jacreg.diagonal(lin()),
    "divergence": lambda: jacreg.divergence(lin()),
    "empirical_ntk": lambda: jacreg.empirical_ntk(lambda w, xs: jnp.tanh(xs @ w), WEIGHTS, XS),
    "frobenius_squared": lambda: jacreg.frobenius_squared(lin()),
    "gram": lambda: jacreg.gram(lin()),
    "hessian_diagonal": lambda: jacreg.hessian_diagonal(scalar()),
    "jacobian": lambda: jacreg.jacobian(lin()),
    "laplacian": lambda: jacreg.laplacian(scalar()),
    "layerwise_log_frobenius": lambda: jacreg.layerwise_log_frobenius([field, field], XS).total,
    "least_stretch": lambda: jacreg.least_stretch(lin(), key=KEY),
    "linearize": lambda: lin().jvp(XS) + lin().vjp(XS),
    "lipschitz_bound": lambda: jacreg.lipschitz_bound([field], XS),
    "log_determinant": lambda: jacreg.log_determinant(lin(), key=KEY, num_terms=2, num_probes=1),
    "log_pseudo_determinant": lambda: jacreg.log_pseudo_determinant(lin()),
    "operator_norm": lambda: jacreg.operator_norm(lambda x: x @ WEIGHTS, (3,), key=KEY),
    "operator_norm_bound": lambda: jacreg.operator_norm_bound(lambda x: x @ WEIGHTS, (3,)),
    "plan": lambda: str(jacreg.plan(jacreg.frobenius_squared, lin())),
    "hold_statistics": lambda: jacreg.hold_statistics(lambda xs: xs - xs.mean(0), XS)(XS),
    "rows_independent": lambda: jacreg.rows_independent(field, XS),
    "spectral_norm": lambda: jacreg.spectral_norm(lin(), key=KEY),
    "spectral_radius": lambda: jacreg.spectral_radius(lin(), key=KEY),
    "with_standard_error": lambda: jacreg.with_standard_error(jacreg.divergence)(
        lin(), jacreg.Hutchinson(4), key=KEY
    ),
}

LOSSES: dict[str, Callable[[], Any]] = {
    "FlowRegularizers": lambda: isinstance(
        losses.flow_regularizers(lin(), XS), losses.FlowRegularizers
    ),
    "bernoulli": lambda: losses.bernoulli(0.5, key=KEY)(3),
    "certified_radius": lambda: losses.certified_radius(XS, LABELS, lipschitz=1.0),
    "contractive_hessian_penalty": lambda: losses.contractive_hessian_penalty(
        field, XS, scale=0.1, num_probes=1, key=KEY
    ),
    "contractive_penalty": lambda: losses.contractive_penalty(lin()),
    "cross_lipschitz_penalty": lambda: losses.cross_lipschitz_penalty(lin()),
    "curvature_penalty": lambda: losses.curvature_penalty(squares, XS, LABELS, step=0.1),
    "denoising_score_matching": lambda: losses.denoising_score_matching(
        field, XS, scale=0.1, key=KEY
    ),
    "dense_contractive_penalty": lambda: losses.dense_contractive_penalty(
        field(XS), WEIGHTS, "tanh"
    ),
    "equilibrium_jacobian_penalty": lambda: losses.equilibrium_jacobian_penalty(field, XS, key=KEY),
    "every": lambda: losses.every(2)(3),
    "finite_difference_score_matching": lambda: losses.finite_difference_score_matching(
        field, XS, scale=0.1, key=KEY
    ),
    "flow_regularizers": lambda: losses.flow_regularizers(lin(), XS).divergence,
    "free_form_flow_surrogate": lambda: losses.free_form_flow_surrogate(field, field, XS, key=KEY),
    "gaussian_noise_regularizer": lambda: losses.gaussian_noise_regularizer(
        [lin()], [0.1], loss="mse"
    ),
    "gradient_alignment_penalty": lambda: losses.gradient_alignment_penalty(
        squares, XS, LABELS, radius=0.1, key=KEY
    ),
    "gradient_penalty": lambda: losses.gradient_penalty(energy, XS),
    "implicit_score_matching": lambda: losses.implicit_score_matching(lin()),
    "jacobian_matching": lambda: losses.jacobian_matching(lin(), jnp.zeros((2, 3, 3))),
    "jacobian_penalty": lambda: losses.jacobian_penalty(lin(), key=KEY),
    "layerwise_penalty": lambda: losses.layerwise_penalty([field], XS),
    "lipschitz_margin_loss": lambda: losses.lipschitz_margin_loss(
        XS, LABELS, margin=0.1, temperature=1.0
    ),
    "lyapunov_exponents": lambda: losses.lyapunov_exponents(field, XS, num_steps=3, key=KEY),
    "lyapunov_penalty": lambda: losses.lyapunov_penalty(field, XS, num_steps=3, key=KEY),
    "loss_gradient_penalty": lambda: losses.loss_gradient_penalty(squares, XS, LABELS),
    "mean_flow_loss": lambda: losses.mean_flow_loss(
        lambda z, r, t: field(z) * t[:, None], XS, XS, jnp.zeros(2), jnp.ones(2)
    ),
    "noise_injection_penalty": lambda: losses.noise_injection_penalty(
        field, XS, scale=0.1, key=KEY
    ),
    "nuclear_norm_penalty": lambda: losses.nuclear_norm_penalty(
        field, field, XS, scale=0.1, key=KEY
    ),
    "path_length_penalty": lambda: losses.path_length_penalty(field, XS, key=KEY, mean=1.0),
    "path_lengths": lambda: losses.path_lengths(field, XS, key=KEY),
    "ramp": lambda: losses.ramp(0.0, 1.0, 4)(3),
    "right_singular_vector": lambda: losses.right_singular_vector(lin(), key=KEY, num_iterations=2),
    "sliced_score_matching": lambda: losses.sliced_score_matching(lin(), key=KEY),
    "spectral_penalty": lambda: losses.spectral_penalty(lin(), key=KEY, num_iterations=2),
    "subsample": lambda: losses.subsample(XS, 0.5, key=KEY),
}


def run(layer: Any, xs: Any) -> Any:
    """Call a layer."""
    return layer(xs)


def nnx_calls() -> dict[str, Callable[[], Any]]:
    """Adapters and layers of Flax nnx."""
    from flax import nnx

    import jacreg.nnx as adapter

    images = jnp.ones((2, 4, 4, 2))

    def rngs() -> Any:
        return nnx.Rngs(0)

    return {
        "AOLConv": lambda: run(adapter.AOLConv(2, 3, 3, rngs=rngs()), images),
        "DifferentialDense": lambda: run(adapter.DifferentialDense(3, 2, rngs=rngs()), XS),
        "DifferentialMLP": lambda: run(
            adapter.DifferentialMLP(3, 2, hidden_features=(4,), rngs=rngs()), XS
        ),
        "GaussianNoise": lambda: run(adapter.GaussianNoise(0.1, rngs=rngs()), XS),
        "GroupSort": lambda: run(adapter.GroupSort(2), images),
        "JacobianTracked": lambda: adapter.JacobianTracked([field]),
        "LipschitzSequential": lambda: adapter.LipschitzSequential(
            [adapter.SLLDense(3, rngs=rngs()), adapter.GroupSort(3)]
        ).lipschitz_bound(),
        "MaxMin": lambda: run(adapter.MaxMin(), images),
        "OrthogonalDense": lambda: run(adapter.OrthogonalDense(3, 2, rngs=rngs()), XS),
        "SLLConv": lambda: run(adapter.SLLConv(2, 3, rngs=rngs()), images),
        "SLLDense": lambda: run(adapter.SLLDense(3, rngs=rngs()), XS),
        "SpectralNormalized": lambda: adapter.SpectralNormalized(
            nnx.Linear(3, 2, rngs=rngs()), in_shape=3, key=KEY
        ),
        "fixed_kernels": lambda: run(
            adapter.fixed_kernels(adapter.OrthogonalDense(3, 2, rngs=rngs())), XS
        ),
        "function": lambda: adapter.function(nnx.Linear(3, 2, rngs=rngs()))(XS),
        "functional": lambda: adapter.functional(nnx.Linear(3, 2, rngs=rngs())).params,
    }


def linen_calls() -> dict[str, Callable[[], Any]]:
    """Adapters and layers of Flax linen."""
    from flax import linen

    import jacreg.linen as adapter

    dense = linen.Dense(2)
    variables = dense.init(KEY, XS)

    def initialised(layer: Any, xs: Any = XS) -> Any:
        return layer.apply(layer.init({"params": KEY, "noise": KEY}, xs), xs, rngs={"noise": KEY})

    return {
        "GaussianNoise": lambda: initialised(adapter.GaussianNoise(0.1, deterministic=False)),
        "GroupSort": lambda: initialised(adapter.GroupSort(2), jnp.ones((2, 4))),
        "MaxMin": lambda: initialised(adapter.MaxMin(), jnp.ones((2, 4))),
        "OrthogonalDense": lambda: initialised(adapter.OrthogonalDense(3, 2)),
        "SpectralNormalized": lambda: adapter.SpectralNormalized(
            dense, use_running_average=False
        ).init(KEY, XS),
        "function": lambda: adapter.function(dense, variables)(XS),
        "functional": lambda: adapter.functional(dense, variables).params,
    }


def eqx_calls() -> dict[str, Callable[[], Any]]:
    """Adapters and layers of Equinox."""
    import equinox

    import jacreg.eqx as adapter

    image = jnp.ones((2, 4, 4))
    linear = equinox.nn.Linear(3, 2, key=KEY)
    return {
        "AOLConv": lambda: run(adapter.AOLConv(2, 3, 3, key=KEY), image),
        "DifferentialDense": lambda: run(adapter.DifferentialDense(3, 2, key=KEY), XS[0]),
        "DifferentialMLP": lambda: run(adapter.DifferentialMLP(3, 2, 4, 1, key=KEY), XS[0]),
        "GaussianNoise": lambda: adapter.GaussianNoise(0.1)(XS[0], key=KEY),
        "GroupSort": lambda: run(adapter.GroupSort(2), XS[0, :2]),
        "JacobianTracked": lambda: adapter.JacobianTracked([field]),
        "LipschitzSequential": lambda: adapter.LipschitzSequential(
            [adapter.SLLDense(3, key=KEY), adapter.GroupSort(3)]
        ).lipschitz_bound(),
        "MaxMin": lambda: run(adapter.MaxMin(), XS[0, :2]),
        "OrthogonalDense": lambda: run(adapter.OrthogonalDense(3, 2, key=KEY), XS[0]),
        "SLLConv": lambda: run(adapter.SLLConv(2, 3, key=KEY), image),
        "SLLDense": lambda: run(adapter.SLLDense(3, key=KEY), XS[0]),
        "SpectralNormalized": lambda: adapter.SpectralNormalized(linear, in_shape=3, key=KEY),
        "fixed_kernels": lambda: run(
            adapter.fixed_kernels(adapter.OrthogonalDense(3, 2, key=KEY)), XS[0]
        ),
        "function": lambda: adapter.function(linear)(XS),
        "functional": lambda: adapter.functional(linear).params,
    }


def flow_calls() -> dict[str, Callable[[], Any]]:
    """Flows, which need diffrax."""
    from jacreg import flow

    def moves(xs: Any, ts: Any) -> Any:
        return field(xs)

    def later(when: Any, state: Any, args: Any) -> Any:
        return when * field(state)

    solver = flow.FlowSolver()
    return {
        "FlowResult": lambda: isinstance(
            flow.log_density(moves, XS, solver=solver), flow.FlowResult
        ),
        "FlowSolver": lambda: solver,
        "TimeFirst": lambda: isinstance(flow.time_first(later), flow.TimeFirst),
        "bits_per_dimension": lambda: flow.bits_per_dimension(jnp.zeros(2), 3),
        "log_density": lambda: flow.log_density(moves, XS, solver=solver),
        "sample": lambda: flow.sample(moves, (2, 3), solver=solver, key=KEY),
        "time_first": lambda: flow.log_density(flow.time_first(later), XS, solver=solver),
    }


def equilibrium_calls() -> dict[str, Callable[[], Any]]:
    """Equilibria, which need optimistix."""
    from jacreg import equilibrium

    def cell(z: Any, xs: Any) -> Any:
        return 0.5 * jnp.tanh(z @ WEIGHTS) + xs

    return {
        "EquilibriumResult": lambda: isinstance(
            equilibrium.solve(cell, jnp.zeros_like(XS), XS), equilibrium.EquilibriumResult
        ),
        "EquilibriumSolver": equilibrium.EquilibriumSolver,
        "solve": lambda: equilibrium.solve(cell, jnp.zeros_like(XS), XS).converged,
    }


# The package, what makes its calls, and what must be installed for it.
PACKAGES: dict[str, tuple[Callable[[], dict[str, Callable[[], Any]]], tuple[str, ...]]] = {
    "jacreg": (lambda: LIBRARY, ()),
    "jacreg.losses": (lambda: LOSSES, ()),
    "jacreg.nnx": (nnx_calls, ("flax",)),
    "jacreg.linen": (linen_calls, ("flax",)),
    "jacreg.eqx": (eqx_calls, ("equinox",)),
    "jacreg.flow": (flow_calls, ("diffrax",)),
    "jacreg.equilibrium": (equilibrium_calls, ("optimistix",)),
}
