"""Adapters and layers for Flax nnx: `jacreg.nnx.function(module)` is a function of a batch."""

try:
    import flax.nnx  # noqa: F401
except ImportError as error:
    raise ImportError("jacreg.nnx needs Flax: pip install flax") from error

from ._differential import DifferentialDense as DifferentialDense
from ._differential import DifferentialMLP as DifferentialMLP
from ._fixed_kernels import fixed_kernels as fixed_kernels
from ._function import function as function
from ._functional import functional as functional
from ._gaussian_noise import GaussianNoise as GaussianNoise
from ._group_sort import GroupSort as GroupSort
from ._group_sort import MaxMin as MaxMin
from ._jacobian_tracked import JacobianTracked as JacobianTracked
from ._lipschitz_convolution import AOLConv as AOLConv
from ._lipschitz_convolution import SLLConv as SLLConv
from ._lipschitz_dense import OrthogonalDense as OrthogonalDense
from ._lipschitz_dense import SLLDense as SLLDense
from ._lipschitz_sequential import LipschitzSequential as LipschitzSequential
from ._spectral_normalized import SpectralNormalized as SpectralNormalized

__all__ = [
    "AOLConv",
    "DifferentialDense",
    "DifferentialMLP",
    "GaussianNoise",
    "GroupSort",
    "JacobianTracked",
    "LipschitzSequential",
    "MaxMin",
    "OrthogonalDense",
    "SLLConv",
    "SLLDense",
    "SpectralNormalized",
    "fixed_kernels",
    "function",
    "functional",
]
