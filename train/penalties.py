"""Penalties by name. Adding one is adding a function and its row in `PENALTIES`.

A function is `(*sources, key, *, options) -> [N]`: one value an example. Its row says which fields
of `Sources` it takes, in order. Keyword-only parameters are its config keys; one called `method`
accepts the config's `method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import jax.numpy as jnp

import jacreg
from train.expect import integer, number

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from jacreg.flow import FlowResult


class TaskLoss(NamedTuple):
    """The loss of a batch.

    Attributes:
        fn: `(xs, targets) -> [N]`.
        xs, targets: the batch.
    """

    fn: Callable[[Any, Any], Any]
    xs: Array
    targets: Any


class DenseEncoder(NamedTuple):
    """An encoder of one dense layer at a batch.

    Attributes:
        hidden: `[N, hidden]`, after the activation.
        kernel: `[in, hidden]`.
        activation: its name.
    """

    hidden: Array
    kernel: Array
    activation: Any


class EquilibriumPoint(NamedTuple):
    """A cell and its equilibrium, for each example of a batch.

    Attributes:
        cell: `[N, *state] -> [N, *state]`, closing over inputs and parameters.
        states: where it is at rest, a pytree.
        converged: `[N]`, whether it is.
    """

    cell: Callable[[Any], Any]
    states: Any
    converged: Any


@dataclass(frozen=True)
class Sources:
    """What a task's forward pass makes once, for its loss and for the penalties.

    None stands for what the task does not give, or nobody asked for.

    Attributes:
        lin: the linearised function of the task: the network, the score or the encoder.
        held_lin, running_lin: where `lin` mixes the rows of its batch (BatchNorm): the same with
            the statistics of the batch held, and the pass through running ones.
        task_loss: the loss of the batch as a function of its inputs.
        kernels: the kernels of an encoder, matrices.
        dense: an encoder that is one dense layer, evaluated.
        jacobians: those that the data gives as targets.
        flow: with its regularisers integrated.
        equilibrium: the cell of the batch and where it is at rest.
    """

    lin: jacreg.Linearization | None = None
    held_lin: jacreg.Linearization | None = None
    running_lin: jacreg.Linearization | None = None
    task_loss: TaskLoss | None = None
    kernels: list[Array] | None = None
    dense: DenseEncoder | None = None
    jacobians: Array | None = None
    flow: FlowResult | None = None
    equilibrium: EquilibriumPoint | None = None


def jacobian(
    lin: jacreg.Linearization, key: Array, *, method: Any = jacreg.Projection()
) -> Float[Array, " N"]:
    """Half the squared Frobenius norm of the Jacobian (Hoffman et al. 2019)."""
    return jacreg.losses.jacobian_penalty(lin, method, key=key)


def contractive(
    lin: jacreg.Linearization, key: Array, *, method: Any = jacreg.Auto()
) -> Float[Array, " N"]:
    """The squared Frobenius norm of the Jacobian (Rifai et al. 2011)."""
    return jacreg.losses.contractive_penalty(lin, method, key=key)


def noise_injection(
    lin: jacreg.Linearization,
    key: Array,
    *,
    scale: Annotated[float, number(above=0)],
    num_probes: Annotated[int, integer(least=1)] = 1,
) -> Float[Array, " N"]:
    """Mean of norm(f(x + e) - f(x))^2 / scale^2 with e ~ N(0, scale^2), no derivative."""
    method = jacreg.NoiseInjection(scale, num_probes)
    return jacreg.frobenius_squared(lin, method, key=key)


def spectral(
    lin: jacreg.Linearization,
    key: Array,
    *,
    num_iterations: Annotated[int, integer(least=1)] = 5,
) -> Float[Array, " N"]:
    """The largest singular value of the Jacobian, by power iteration."""
    return jacreg.losses.spectral_penalty(lin, key=key, num_iterations=num_iterations)


def contractive_hessian(
    lin: jacreg.Linearization,
    key: Array,
    *,
    scale: Annotated[float, number(above=0)],
    num_probes: Annotated[int, integer(least=1)] = 1,
) -> Float[Array, " N"]:
    """Mean of norm(J(x + e) - J(x))_F^2 with e ~ N(0, scale^2) (Rifai et al. 2011, CAE+H)."""
    return jacreg.losses.contractive_hessian_penalty(
        lin.evaluate, lin.xs, scale=scale, num_probes=num_probes, key=key
    )


def loss_gradient(task_loss: TaskLoss, key: Array) -> Float[Array, " N"]:
    """The squared norm of the loss's gradient in its input (Drucker and LeCun 1992)."""
    return jacreg.losses.loss_gradient_penalty(*task_loss)


def dense_contractive(dense: DenseEncoder, key: Array) -> Float[Array, " N"]:
    """The same for an encoder of one dense layer, by its closed form: no Jacobian product."""
    return jacreg.losses.dense_contractive_penalty(*dense)


def weight_decay(kernels: list[Array], key: Array) -> Float[Array, " 1"]:
    """The squared Frobenius norm of an encoder's kernels, the same for every example."""
    return jnp.sum(jnp.stack([jnp.sum(kernel**2) for kernel in kernels]), keepdims=True)


def jacobian_matching(
    lin: jacreg.Linearization, jacobians: Array, key: Array
) -> Float[Array, " N"]:
    """The squared distance to the Jacobians in the data (Lutter et al. 2019)."""
    return jacreg.losses.jacobian_matching(lin, jacobians)


def kinetic_energy(flow: Any, key: Array) -> Float[Array, " N"]:
    """The integral of norm(f)^2 along a flow, a sum over dimensions (Finlay et al. 2020)."""
    return flow.kinetic_energy


def flow_frobenius(flow: Any, key: Array) -> Float[Array, " N"]:
    """The integral of norm(df/dx)_F^2 along a flow (Finlay et al. 2020)."""
    return flow.frobenius_squared


def equilibrium_jacobian(
    equilibrium: EquilibriumPoint,
    key: Array,
    *,
    num_probes: Annotated[int, integer(least=1)] = 1,
) -> Float[Array, " N"]:
    """The squared norm of the cell's Jacobian over the entries of a state (Bai et al. 2021).

    0 for an example that is at no equilibrium.
    """
    found = jacreg.losses.equilibrium_jacobian_penalty(
        equilibrium.cell, equilibrium.states, key=key, num_probes=num_probes
    )
    return jnp.where(equilibrium.converged, found, 0)


@dataclass(frozen=True)
class PenaltyRow:
    """A penalty as the registry has it.

    Attributes:
        compute: `(*sources, key, *, options) -> [N]`.
        reads: the fields of `Sources` that it takes, in order.
    """

    compute: Callable[..., Any]
    reads: tuple[str, ...] = ("lin",)


PENALTIES: Mapping[str, PenaltyRow] = {
    "jacobian": PenaltyRow(jacobian),
    "contractive": PenaltyRow(contractive),
    "noise_injection": PenaltyRow(noise_injection),
    "spectral": PenaltyRow(spectral),
    "contractive_hessian": PenaltyRow(contractive_hessian),
    "loss_gradient": PenaltyRow(loss_gradient, ("task_loss",)),
    "dense_contractive": PenaltyRow(dense_contractive, ("dense",)),
    "weight_decay": PenaltyRow(weight_decay, ("kernels",)),
    "jacobian_matching": PenaltyRow(jacobian_matching, ("lin", "jacobians")),
    "kinetic_energy": PenaltyRow(kinetic_energy, ("flow",)),
    "flow_frobenius": PenaltyRow(flow_frobenius, ("flow",)),
    "equilibrium_jacobian": PenaltyRow(equilibrium_jacobian, ("equilibrium",)),
}
