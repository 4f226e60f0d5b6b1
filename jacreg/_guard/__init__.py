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

Behind a contraction, a convolution or whatever else adds up entries, something of a row is asked
for as a rule, and nothing is changed. Where a condition holds for rows as a whole
(`jnp.where(valid[:, None], jnp.sqrt(xs) @ w, xs)`) nothing may be: a mask passes along the axes
that are not mixed, if a clause of it changes along none that is. So conditions on entries alone,
as relu has them, stay where they are. What is not followed: conditions on entries that are false
for all of a row by chance, those of rows in a rule of `jax.custom_jvp`, and `while` loops.
"""

from ._axes import links as links
from ._axes import pairs as pairs
from ._masks import takes as takes
from ._mixing import any_along as any_along
from ._poles import has_pole as has_pole
from ._repeated import with_own_conditions as with_own_conditions
from ._rewrite import with_finite_factors as with_finite_factors
