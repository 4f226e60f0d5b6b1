"""Factors of a linear program that a condition leaves out, made finite there.

`jnp.where(x > 0, x, jnp.sqrt(-x))` has the derivative select(x > 0, t, factor * t), with a factor
that is nan where x > 0. Forward, the condition leaves the nan out; in reverse the factor meets the
zero that the condition sends back, and 0 * nan is nan. In `jnp.sqrt(jnp.where(x > 0, x, 0))` it is
the other way about. So a product in one direction would be finite and in the other not, and a
quantity would depend on the direction that it takes. Here a factor is set to zero wherever a
condition before it lets nothing through, or one behind it asks for nothing: both directions then
give the finite value. That changes no entry that is finite in both, and costs one selection for
each such factor, once for all products; in the body of a loop, a checkpoint or a branch once in
each.
"""

from ._rewrite import with_finite_factors as with_finite_factors
