"""Equilibrium models: Equinox modules whose output is a fixed point, by `jacreg.equilibrium`.

Importing this imports equinox.
"""

from jacreg.equilibrium import EquilibriumSolver as EquilibriumSolver

from ._mdeq import MDEQ as MDEQ
from ._solve import solve as solve
from ._synthetic import Equilibrium as Equilibrium
