"""A model as a pure function of its parameters: the shape that every framework is brought to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

    from ._typing import PyTree


class Apply(Protocol):
    """`apply(params, state, xs, *args, train=False, key=None) -> (ys, state)`, pure."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        xs: Float[Array, "N *in"],
        *args: Any,
        train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, " N *out"], PyTree]:
        """Evaluate the model on a batch and return its outputs and its new state."""
        ...

    def merge(self, params: PyTree, state: PyTree) -> Any:
        """Return the model with these parameters and this state."""
        ...


class Functional(NamedTuple):
    """A model taken apart: `params`, `state`, and the pure `apply` that puts them together.

    Made by `jacreg.nnx.functional`, `jacreg.linen.functional` and
    `jacreg.eqx.functional`; the same weights give the same numbers in all three.

    Attributes:
        params: the trainable arrays, a pytree for `jax.grad`, optax and checkpoints.
        state: everything else that evolves (running statistics and the like). It holds no
            PRNG key. Its structure, shapes and dtypes are those of the state that `apply`
            returns, so that a jitted step compiles once.
        apply: `apply(params, state, xs, *args, train=False, key=None) -> (ys, state)`.
            With `train=False` evaluation, `key` unused: dropout off (or fixed by the
            `dropout_key` that `functional` was given), statistics as `functional` was told,
            and the state unchanged unless those are the batch's. With `train=True` batch
            statistics, the new state, and dropout by `key` (or by that `dropout_key`); a
            ValueError where dropout is active and there is no key.
    """

    params: Any
    state: Any
    apply: Apply

    def merge(self, params: PyTree, state: PyTree) -> Any:
        """Return the model again, with these parameters and this state.

        An nnx module; the linen variables; an Equinox model, or `(model, state)` where
        `functional` was given a state.
        """
        return self.apply.merge(params, state)

    def __repr__(self) -> str:
        return (
            f"Functional(params: {_count(self.params)}; state: {_count(self.state)}; "
            ".apply(params, state, xs, *args, train=False, key=None) -> (ys, state), "
            ".merge(params, state) -> the model)"
        )


def _count(tree: PyTree) -> str:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "size")]
    return f"{len(leaves)} arrays, {sum(leaf.size for leaf in leaves):,} numbers"
