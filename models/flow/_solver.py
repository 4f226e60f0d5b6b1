"""Which solver integrates a flow, and how finely."""

from __future__ import annotations

import dataclasses
import math

import diffrax

from jacreg._nearest import unknown

from ._runge_kutta import RungeKutta4

_METHODS = ("dopri5", "rk4")


@dataclasses.dataclass(frozen=True)
class FlowSolver:
    """Integration of a flow from the data at time 0 to the latents at `end_time`.

    Attributes:
      method: "dopri5" adapts its steps to the tolerances, one step size for the whole batch;
        "rk4" takes steps of `step_size`.
      end_time: the time of the latents (0.5 in FFJORD's 2-D toys, 1 in RNODE).
      step_size: of rk4 (0.25 in RNODE's training).
      rtol, atol: of dopri5 (1e-5 in FFJORD).
      max_steps: steps after which the solver gives up; the result says so.

    Raises: ValueError for an unknown method or a value that is not positive and finite.
    """

    method: str = "dopri5"
    end_time: float = 1.0
    step_size: float = 0.25
    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 1000

    def __post_init__(self):
        if self.method not in _METHODS:
            raise unknown("flow solver", self.method, _METHODS)
        for name in ("end_time", "step_size", "rtol", "atol", "max_steps"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} of a flow solver must be positive, got {value}.")

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations of the field that each step takes, rejected steps included."""
        # The last stage of dopri5 is the first of the next step, after a rejection too.
        return {"dopri5": 6, "rk4": 4}[self.method]

    @property
    def first_evaluations(self) -> int:
        """Evaluations before the first step: the first stage of dopri5."""
        return {"dopri5": 1, "rk4": 0}[self.method]

    def integrate(self, field, state, start: float, end: float):
        """Solve d state / dt = field(t, state) from `start` to `end`; a diffrax solution.

        A solver that gives up leaves its result code in the solution and raises nothing.
        """
        sign = 1.0 if end > start else -1.0
        if self.method == "rk4":
            steps = math.ceil(abs(end - start) / self.step_size - 1e-9)
            solver, controller = RungeKutta4(), diffrax.ConstantStepSize()
            first, max_steps = sign * abs(end - start) / steps, steps + 1
        else:
            solver = diffrax.Dopri5()
            controller = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
            # Given, as the search for a first step takes evaluations that nothing counts.
            first, max_steps = sign * min(0.01, abs(end - start)), self.max_steps
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, state, args: field(t, state)),
            solver,
            t0=start,
            t1=end,
            dt0=first,
            y0=state,
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(t1=True),
            max_steps=max_steps,
            throw=False,
        )
