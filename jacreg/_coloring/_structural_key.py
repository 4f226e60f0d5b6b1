"""What the places of zeros in a Jacobian may depend on."""

from __future__ import annotations

from collections.abc import Hashable

from .._dependence import constants_digest
from .._linearize import Linearization
from ._linear_program import structural_values


def structural_key(lin: Linearization) -> Hashable:
    """What the places of zeros in a Jacobian may depend on: the program and index tables.

    The program stands there by its signature, which keeps no trace alive.

    Shapes are part of the program. Integers and booleans that the function closes over or takes as
    arguments may choose entries; where they are traced they are not known, and the key says so.
    """
    return lin.program.signature, constants_digest(structural_values(lin))
