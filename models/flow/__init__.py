"""Continuous normalising flows on diffrax. Importing this imports diffrax."""

from ._bits import bits_per_dimension as bits_per_dimension
from ._integrate import FlowResult as FlowResult
from ._integrate import log_density as log_density
from ._integrate import sample as sample
from ._solver import FlowSolver as FlowSolver
