"""Which solver integrates a flow, how finely, and how its derivatives are taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from .._checks import check_count, check_positive
from .._nearest import unknown
from .._structure import common_dtype
from ._runge_kutta import RungeKutta4

if TYPE_CHECKING:
    from .._typing import PyTree

_ADAPTIVE: dict[str, Callable[[], Any]] = {
    "dopri5": diffrax.Dopri5,
    "dopri8": diffrax.Dopri8,
    "tsit5": diffrax.Tsit5,
}
_FIXED: dict[str, Callable[[], Any]] = {
    "euler": diffrax.Euler,
    "heun": diffrax.Heun,
    "midpoint": diffrax.Midpoint,
    "rk4": RungeKutta4,
}


@dataclasses.dataclass(frozen=True)
class FlowSolver:
    """Integration of a flow from the data at time 0 to the latents at `end_time`.

    Attributes:
        method: "dopri5", "tsit5" and "dopri8" adapt their steps to the tolerances, one step size
            for the whole batch; "euler", "midpoint", "heun" and "rk4" take steps of `step_size`.
        end_time: the time of the latents (0.5 in FFJORD's 2-D toys, 1 in RNODE).
        step_size: of fixed steps (0.25 in RNODE's training).
        rtol, atol: of adaptive steps (1e-5 in FFJORD).
        max_steps: adaptive steps after which the solver gives up; the result says so.
        adjoint: how derivatives are taken, an adjoint of diffrax: None for
            `diffrax.RecursiveCheckpointAdjoint()` (reverse mode, little memory);
            `diffrax.DirectAdjoint()` (both modes), `diffrax.ForwardMode()` (forward mode),
            `diffrax.BacksolveAdjoint()` (reverse mode by a second solve: constant memory, and
            derivatives as accurate as the tolerances).

    Raises:
        ValueError: an unknown method, a value that is not positive and finite, or an adjoint that
            gives another derivative.
        TypeError: the adjoint is none of diffrax's, or a value no number (for `max_steps` no
            integer).

    Example:
        >>> import jax.numpy as jnp, jacreg.flow
        >>> solver = jacreg.flow.FlowSolver("rk4", step_size=0.5)
        >>> solver.adaptive, solver.evaluations_per_step
        (False, 4)
        >>> found = jacreg.flow.log_density(lambda xs, ts: -xs, jnp.ones((1, 2)), solver=solver)
        >>> int(found.num_steps), int(found.num_evaluations)
        (2, 8)
    """

    method: str = "dopri5"
    end_time: float = 1.0
    step_size: float = 0.25
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 1000
    adjoint: diffrax.AbstractAdjoint | None = None

    def __post_init__(self) -> None:
        if self.method not in (*_ADAPTIVE, *_FIXED):
            raise unknown("flow solver", self.method, (*_ADAPTIVE, *_FIXED))
        for name in ("end_time", "step_size", "rtol", "atol"):
            check_positive("FlowSolver", name, getattr(self, name))
        check_count("FlowSolver", "max_steps", self.max_steps)
        if isinstance(self.adjoint, diffrax.ImplicitAdjoint):
            raise ValueError(
                "adjoint of a flow solver: got diffrax.ImplicitAdjoint(), which gives the "
                "derivative of a steady state (none in the start), not of the end of a path. Use "
                "diffrax.RecursiveCheckpointAdjoint(), DirectAdjoint(), BacksolveAdjoint() or "
                "ForwardMode()."
            )
        if self.adjoint is not None and not isinstance(self.adjoint, diffrax.AbstractAdjoint):
            raise TypeError(
                "adjoint of a flow solver must be one of diffrax, such as "
                f"diffrax.DirectAdjoint(), got {self.adjoint!r}."
            )

    @property
    def adaptive(self) -> bool:
        """Whether the steps are adapted to the tolerances."""
        return self.method in _ADAPTIVE

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations of the field that each step takes, rejected steps included."""
        # The last stage of an adaptive method is the first of the next step, after a rejection too.
        return self._stages() - self.first_evaluations

    @property
    def first_evaluations(self) -> int:
        """Evaluations before the first step: the first stage of an adaptive method."""
        return 1 if self.adaptive else 0

    def _stages(self) -> int:
        solver: Any = {**_ADAPTIVE, **_FIXED}[self.method]
        return 1 if solver is diffrax.Euler else solver.tableau.num_stages

    def integrate(
        self, rates: Callable[[Any, PyTree], PyTree], state: PyTree, start: float, end: float
    ) -> diffrax.Solution:
        """Solve d state / dt = rates(t, state) from `start` to `end`; a diffrax solution.

        `rates` is traced once. A solver that gives up leaves its result code in the solution and
        raises nothing.
        """
        sign = 1.0 if end > start else -1.0
        if self.adaptive:
            solver = _ADAPTIVE[self.method]()
            controller: Any = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
            # Given, as the search for a first step takes evaluations that nothing counts.
            first, max_steps = sign * min(0.01, abs(end - start)), self.max_steps
        else:
            steps = math.ceil(abs(end - start) / self.step_size - 1e-9)
            solver, controller = _FIXED[self.method](), diffrax.ConstantStepSize()
            first, max_steps = sign * abs(end - start) / steps, steps + 1
        dtype = common_dtype(x.dtype for x in jax.tree.leaves(state))
        # What the field closes over becomes a part of the term: every adjoint then reaches it.
        traced = eqx.filter_closure_convert(rates, jnp.zeros((), dtype), state)
        return diffrax.diffeqsolve(
            diffrax.ODETerm(jax.tree_util.Partial(_without_args, traced)),
            solver,
            t0=jnp.asarray(start, dtype),
            t1=jnp.asarray(end, dtype),
            dt0=jnp.asarray(first, dtype),
            y0=state,
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(t1=True),
            adjoint=self.adjoint or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=max_steps,
            throw=False,
        )


def _without_args(rates: Any, t: Any, state: PyTree, args: Any) -> PyTree:
    return rates(t, state)
