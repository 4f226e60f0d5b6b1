"""Adapters and layers for Flax linen: `jacreg.linen.function(module, variables)`."""

try:
    import flax.linen  # noqa: F401
except ImportError as error:
    raise ImportError("jacreg.linen needs Flax: pip install flax") from error

from ._function import function as function
from ._functional import functional as functional
from ._gaussian_noise import GaussianNoise as GaussianNoise
from ._lipschitz import GroupSort as GroupSort
from ._lipschitz import MaxMin as MaxMin
from ._lipschitz import OrthogonalDense as OrthogonalDense
from ._spectral_normalized import SpectralNormalized as SpectralNormalized

__all__ = [
    "GaussianNoise",
    "GroupSort",
    "MaxMin",
    "OrthogonalDense",
    "SpectralNormalized",
    "function",
    "functional",
]
