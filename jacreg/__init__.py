"""jacreg: Jacobian-aware regularisation for JAX networks, exact where others estimate.

`linearize` a batched function once, then ask for penalties, divergences, norms.
"""

from . import losses as losses
from ._bounds._lipschitz_bound import lipschitz_bound as lipschitz_bound
from ._bounds._operator_norm_bound import operator_norm_bound as operator_norm_bound
from ._choose import choose as choose
from ._coloring import Coloring as Coloring
from ._coloring import ColoringError as ColoringError
from ._coloring import color as color
from ._empirical_ntk import empirical_ntk as empirical_ntk
from ._errors import DirectionError as DirectionError
from ._frobenius import frobenius_squared as frobenius_squared
from ._gram import gram as gram
from ._hold_statistics import hold_statistics as hold_statistics
from ._jacobian import jacobian as jacobian
from ._laplacian import hessian_diagonal as hessian_diagonal
from ._laplacian import laplacian as laplacian
from ._layerwise import LayerwiseLogFrobenius as LayerwiseLogFrobenius
from ._layerwise import layerwise_log_frobenius as layerwise_log_frobenius
from ._least_stretch import LeastStretch as LeastStretch
from ._least_stretch import least_stretch as least_stretch
from ._linearize import Linearization as Linearization
from ._linearize import linearize as linearize
from ._log_determinant import log_determinant as log_determinant
from ._methods import Auto as Auto
from ._methods import CoupledBatch as CoupledBatch
from ._methods import Exact as Exact
from ._methods import Hutchinson as Hutchinson
from ._methods import HutchPlusPlus as HutchPlusPlus
from ._methods import Lanczos as Lanczos
from ._methods import NoiseInjection as NoiseInjection
from ._methods import Probing as Probing
from ._methods import Projection as Projection
from ._methods import XRowNorm as XRowNorm
from ._methods import XTrace as XTrace
from ._missing import __getattr__ as __getattr__  # pyright: ignore[reportAttributeAccessIssue]
from ._operator_norm import operator_norm as operator_norm
from ._plan import Plan as Plan
from ._plan import plan as plan
from ._program import Directions as Directions
from ._pseudo_determinant import log_pseudo_determinant as log_pseudo_determinant
from ._rows_independent import rows_independent as rows_independent
from ._spectral_norm import spectral_norm as spectral_norm
from ._spectral_radius import spectral_radius as spectral_radius
from ._standard_error import with_standard_error as with_standard_error
from ._trace import diagonal as diagonal
from ._trace import divergence as divergence
from ._version import __version__ as __version__

__all__ = [
    "Auto",
    "Coloring",
    "ColoringError",
    "CoupledBatch",
    "DirectionError",
    "Directions",
    "Exact",
    "HutchPlusPlus",
    "Hutchinson",
    "Lanczos",
    "LayerwiseLogFrobenius",
    "LeastStretch",
    "Linearization",
    "NoiseInjection",
    "Plan",
    "Probing",
    "Projection",
    "XRowNorm",
    "XTrace",
    "__version__",
    "choose",
    "color",
    "diagonal",
    "divergence",
    "empirical_ntk",
    "frobenius_squared",
    "gram",
    "hessian_diagonal",
    "hold_statistics",
    "jacobian",
    "laplacian",
    "layerwise_log_frobenius",
    "least_stretch",
    "linearize",
    "lipschitz_bound",
    "log_determinant",
    "log_pseudo_determinant",
    "losses",
    "operator_norm",
    "operator_norm_bound",
    "plan",
    "rows_independent",
    "spectral_norm",
    "spectral_radius",
    "with_standard_error",
]
