"""Losses: one value an example, `[N]`; sums over dimensions, never means.

The plain batch mean is the term: `task + weight * jnp.mean(loss)`. The table of
docs/losses.md compares our weights with those of the papers.
"""

from ._certified import certified_radius as certified_radius
from ._certified import lipschitz_margin_loss as lipschitz_margin_loss
from ._contractive import contractive_penalty as contractive_penalty
from ._contractive_hessian import contractive_hessian_penalty as contractive_hessian_penalty
from ._cross_lipschitz import cross_lipschitz_penalty as cross_lipschitz_penalty
from ._denoising import denoising_score_matching as denoising_score_matching
from ._denoising import finite_difference_score_matching as finite_difference_score_matching
from ._dense_contractive import dense_contractive_penalty as dense_contractive_penalty
from ._equilibrium import equilibrium_jacobian_penalty as equilibrium_jacobian_penalty
from ._flow import FlowRegularizers as FlowRegularizers
from ._flow import flow_regularizers as flow_regularizers
from ._free_form_flow import free_form_flow_surrogate as free_form_flow_surrogate
from ._gaussian_noise import gaussian_noise_regularizer as gaussian_noise_regularizer
from ._gradient import gradient_penalty as gradient_penalty
from ._gradient import loss_gradient_penalty as loss_gradient_penalty
from ._gradient_change import curvature_penalty as curvature_penalty
from ._gradient_change import gradient_alignment_penalty as gradient_alignment_penalty
from ._jacobian import jacobian_penalty as jacobian_penalty
from ._layerwise import layerwise_penalty as layerwise_penalty
from ._lyapunov import lyapunov_exponents as lyapunov_exponents
from ._lyapunov import lyapunov_penalty as lyapunov_penalty
from ._matching import jacobian_matching as jacobian_matching
from ._mean_flow import mean_flow_loss as mean_flow_loss
from ._noise_injection import noise_injection_penalty as noise_injection_penalty
from ._nuclear_norm import nuclear_norm_penalty as nuclear_norm_penalty
from ._path_length import path_length_penalty as path_length_penalty
from ._path_length import path_lengths as path_lengths
from ._schedules import bernoulli as bernoulli
from ._schedules import every as every
from ._schedules import ramp as ramp
from ._score_matching import implicit_score_matching as implicit_score_matching
from ._score_matching import sliced_score_matching as sliced_score_matching
from ._spectral import right_singular_vector as right_singular_vector
from ._spectral import spectral_penalty as spectral_penalty
from ._subsample import subsample as subsample

__all__ = [
    "FlowRegularizers",
    "bernoulli",
    "certified_radius",
    "contractive_hessian_penalty",
    "contractive_penalty",
    "cross_lipschitz_penalty",
    "curvature_penalty",
    "denoising_score_matching",
    "dense_contractive_penalty",
    "equilibrium_jacobian_penalty",
    "every",
    "finite_difference_score_matching",
    "flow_regularizers",
    "free_form_flow_surrogate",
    "gaussian_noise_regularizer",
    "gradient_alignment_penalty",
    "gradient_penalty",
    "implicit_score_matching",
    "jacobian_matching",
    "jacobian_penalty",
    "layerwise_penalty",
    "lipschitz_margin_loss",
    "loss_gradient_penalty",
    "lyapunov_exponents",
    "lyapunov_penalty",
    "mean_flow_loss",
    "noise_injection_penalty",
    "nuclear_norm_penalty",
    "path_length_penalty",
    "path_lengths",
    "ramp",
    "right_singular_vector",
    "sliced_score_matching",
    "spectral_penalty",
    "subsample",
]
