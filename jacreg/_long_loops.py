"""Forward products through long loops without what each step of the loop keeps.

`jax.linearize` keeps the residuals of every step of a loop until its last product: 78 MB of a
recurrence of 20,000 steps whose state has 32 entries, for a Jacobian of a hundred. Forward mode
needs none of that: value and tangents go through the loop side by side. Straight programs gain
nothing, since XLA frees each array after its last use, but no use can move into a finished loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._interpret import JIT, scan_counts
from ._memory import array_bytes, known_size
from ._program import FORWARD
from ._tangent_map import with_tangent_map
from ._traced import is_traced

if TYPE_CHECKING:
    from ._linearize import Linearization
    from ._typing import PyTree

# Of what loops keep, in bytes, from which on the function is evaluated again instead; and in
# comparison with the vectors and products that are held anyway.
_LEAST_BYTES = 1 << 20
_TIMES = 4
# Products that share one more evaluation, so that it adds little to their time.
_AT_ONCE = 8


def keeps_loops(lin: Linearization, count: int) -> bool:
    """Whether loops keep much more than `count` tangents take, and forward mode would save it.

    Outside of a trace it has been kept by now.
    """
    if lin.no_forward is not None or not any(map(is_traced, lin.residuals)):
        return False
    kept = _scanned(lin.program.linear)
    if kept < _LEAST_BYTES:
        return False
    vectors = (count + 1) * (lin.inputs.size + lin.outputs.size)
    held = known_size(lin.num_examples) * vectors * jnp.dtype(lin.inputs.dtype).itemsize
    return kept > _TIMES * held


def beside_value(lin: Linearization, count: int, at_once: int) -> Linearization:
    """The same map for `count` products J v, `at_once` by one `jax.vmap`, if that saves memory.

    Its products evaluate the function again, once for all of a `jax.vmap`.
    """
    if at_once < min(count, _AT_ONCE) or not keeps_loops(lin, count):
        return lin

    def along(tangent: PyTree) -> PyTree:
        return jax.jvp(lin.evaluate, (lin.xs,), (tangent,))[1]

    return with_tangent_map(lin, along, mode=FORWARD)


def _scanned(jaxpr: Any) -> int:
    """Bytes of the arrays that the loops of a linear program read a step at a time."""
    total = 0
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "scan":
            first = sum(scan_counts(equation))
            total += sum(array_bytes(atom.aval) for atom in equation.invars[first:])
        elif equation.primitive.name in JIT:
            total += _scanned(params["jaxpr"].jaxpr)
    return total
