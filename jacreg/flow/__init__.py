"""Continuous normalising flows: likelihood, samples, regularisers. It imports diffrax."""

try:
    import diffrax  # noqa: F401
except ImportError as error:
    raise ImportError('jacreg.flow needs diffrax: pip install "jacreg[flows]"') from error

from ._bits import bits_per_dimension as bits_per_dimension
from ._field import TimeFirst as TimeFirst
from ._field import time_first as time_first
from ._integrate import log_density as log_density
from ._integrate import sample as sample
from ._result import FlowResult as FlowResult
from ._solver import FlowSolver as FlowSolver

__all__ = [
    "FlowResult",
    "FlowSolver",
    "TimeFirst",
    "bits_per_dimension",
    "log_density",
    "sample",
    "time_first",
]
