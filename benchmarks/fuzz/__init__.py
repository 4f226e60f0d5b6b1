"""Random programs, held against the dense Jacobian."""

from ._hold import Find as Find
from ._hold import fuzz as fuzz
