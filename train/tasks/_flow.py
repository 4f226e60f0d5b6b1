"""Continuous normalising flows: maximum likelihood of vectors and of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import jax.numpy as jnp

from train.errors import DivergedError
from train.expect import integer, number, sequence
from train.methods import make_method
from train.named import Choice, Named
from train.networks import build_model
from train.objective import Pass, penalised
from train.penalties import Sources
from train.problem import Problem
from train.step import INIT_PURPOSE, purpose_key
from train.tasks._flow_options import (
    ACCURATE,
    DIVERGENCES,
    SOLVERS,
    check_one_probe,
    check_vector_field,
    describe,
    make_divergence,
    make_solver,
)
from train.tasks._flow_report import FlowReport
from train.tasks._flow_space import PIXELS, FlowSpace
from train.terms import make_terms

if TYPE_CHECKING:
    from jacreg.flow import FlowResult, FlowSolver
    from train.data import Dataset
    from train.problem import Setting


def flow(
    setting: Setting,
    dataset: Dataset,
    *,
    solver: Annotated[Named, Choice(SOLVERS)] = ACCURATE,
    end_time: Annotated[float, number(above=0, most=1000)] = 1.0,
    method: Annotated[Named, Choice(DIVERGENCES, make_method)] = Named("auto"),
    test_solver: Annotated[Named, Choice(SOLVERS)] = ACCURATE,
    test_method: Annotated[Named, Choice(DIVERGENCES, make_method)] = Named("auto"),
    divergence_weight: Annotated[float, number(least=0, most=1)] = 1.0,
    on_failure: Literal["stop", "continue"] = "stop",
    integrals: Literal["final", "always"] = "final",
    step_sizes: Annotated[tuple[float, ...], sequence(number(above=0))] = (),
    pixels: Annotated[Named | None, Choice(PIXELS)] = None,
    num_samples: Annotated[int, integer(least=1, most=100_000)] = 1000,
    grid: Annotated[int, integer(least=0, most=2000)] = 200,
) -> Problem:
    """A flow dz/dt = f(z, t) from the data at time 0 to a standard normal at the end.

    The loss is the negative log density of each example in nats, in the data's own coordinates
    (images: in [0, 1]). The penalties `kinetic_energy` and `flow_frobenius` read the
    integrals along the path, which are computed where one of them has a weight.

    Args:
        setting, dataset: of the run; targets are not used.
        solver: of training, "dopri5" (rtol, atol, max_steps) or "rk4" (step_size).
        end_time: of the flow.
        method: of the divergence in training; a colouring, so exact, where left out.
        test_solver, test_method: of the evaluation, the same for models that are compared.
        divergence_weight: of the divergence in the training loss: 1 is the likelihood, and 0
            leaves the density of the latents alone, so that the flow gathers all points at the
            mode. The evaluation always takes it whole.
        on_failure: a step whose solver gives up changes nothing and counts 0 in the means;
            "stop" ends training at the next log line, "continue" goes on. A solve of the
            evaluation that fails is told and left out of the means.
        integrals: when kinetic energy and Jacobian norm are evaluated, "always" with every
            evaluation.
        step_sizes: of rk4, whose likelihood of the test examples the final evaluation compares
            with that of `test_solver`.
        pixels: of images: "logit" (levels, margin) where left out, or "scaled" (levels).
        num_samples: drawn at the end.
        grid: cells along a side of the grid on which the density of points in the plane is
            drawn and summed; 0 for neither.

    Raises:
        ConfigError: the network is no vector field on the data, or the options do not fit
            together.
    """
    key = purpose_key(setting.seed, INIT_PURPOSE)
    model = build_model(setting.model, dataset, dataset.train.inputs[0].size, key)
    dataset = model.arrange(dataset)
    space = FlowSpace(
        setting.data, dataset, model, pixels and PIXELS[pixels.name](**pixels.options)
    )

    def field(weights: Any, xs: Any, ts: Any) -> Any:
        return model.apply(*weights, xs, ts)[0]

    def start_field(xs: Any, ts: Any) -> Any:
        return field((model.params, model.state), xs, ts)

    sample, _ = space.encode(dataset.train.inputs[:2], key)
    check_vector_field(model.name, start_field, sample)
    divergence = make_divergence(method, start_field, sample)
    test_divergence = make_divergence(test_method, start_field, sample)
    terms = make_terms(setting.penalty, setting.training.steps, offers=("flow",))
    if terms:
        check_one_probe(divergence)
    report = FlowReport(
        setting,
        dataset,
        space,
        field,
        make_solver(test_solver, end_time),
        test_divergence,
        num_samples=num_samples,
        grid=grid,
        always=integrals == "always",
        step_sizes=step_sizes,
    )
    forward = make_forward(
        field, space, make_solver(solver, end_time), divergence, divergence_weight
    )
    return Problem(
        params=model.params,
        state=model.state,
        examples={"inputs": dataset.train.inputs},
        prepare=lambda rows: (rows["inputs"], None),
        objective=penalised(forward, terms),
        evaluate=report.evaluate,
        report=report.report,
        check=make_check(on_failure),
        notes={
            "divergence": describe(divergence, start_field, sample),
            "test_divergence": describe(test_divergence, start_field, sample),
            "dimensions": space.dimensions,
        },
    )


def make_forward(
    field: Callable[..., Any],
    space: FlowSpace,
    solver: FlowSolver,
    method: Any,
    divergence_weight: float = 1.0,
) -> Callable[..., Pass]:
    """Return the pass of a flow; it offers `flow`, with its integrals."""

    def weighted(found: Any) -> Any:
        """Return the log density with the divergence weighted."""
        if divergence_weight == 1:
            return found.log_density
        latents = jax.scipy.stats.norm.logpdf(found.values)
        base = jnp.sum(latents, axis=tuple(range(1, latents.ndim)))
        return divergence_weight * found.log_density + (1 - divergence_weight) * base

    def forward(
        params: Any, state: Any, raw: Any, targets: Any, key: Any, needs: frozenset[str]
    ) -> Pass:
        from jacreg.flow import bits_per_dimension

        found: Any
        found, volume = space.log_density(
            lambda xs, ts: field((params, state), xs, ts),
            raw,
            key,
            solver=solver,
            method=method,
            regularize="flow" in needs,
        )
        log_densities = jnp.where(found.converged, weighted(found) + volume, 0)
        metrics = {
            "nfe": found.num_evaluations.astype(jnp.float32),
            "solver_failures": 1 - found.converged.astype(jnp.float32),
            "time_left": found.remaining.astype(jnp.float32),
        }
        if space.levels is not None:
            bits = bits_per_dimension(log_densities, space.dimensions, levels=space.levels)
            metrics["bits_per_dimension"] = jnp.mean(bits)
        sources = Sources(flow=_kept(found))
        return Pass(-log_densities, state, sources, metrics, usable=found.converged)

    return forward


def _kept(found: FlowResult) -> FlowResult:
    """Return the integrals as they are, or 0 where the solver gave up."""
    return jax.tree.map(lambda values: jnp.where(found.converged, values, 0), found)


def make_check(on_failure: str) -> Callable[[int, Mapping[str, float]], str | None]:
    """Return what happens at a line of metrics that tells of solvers that gave up."""

    def check(step: int, metrics: Mapping[str, float]) -> str | None:
        told = []
        for split, solves in (("train", "steps since the last log line"), ("test", "test solves")):
            share = metrics.get(f"{split}/solver_failures", 0.0)
            if share == 0:
                continue
            training = split == "train"
            left = metrics.get("train/time_left", 0.0) / share
            text = (
                f"by step {step} the solver gave up in {share:.2%} of the {solves}"
                + (f", with {left:.0%} of the time left" if training else "")
                + f" (mean NFE {metrics.get(f'{split}/nfe', float('nan')):.0f}). Raise max_steps "
                f"or the tolerances of task.{'' if training else 'test_'}solver, or add the "
                "penalties kinetic_energy and flow_frobenius, which make the field easier to "
                "integrate, in another --workdir."
            )
            # The parameters that a failed test solve saw are those of good steps.
            if training and on_failure == "stop":
                raise DivergedError(
                    f'{text} Or set task.on_failure = "continue": such steps are left out.'
                )
            told.append(text)
        return " ".join(told) or None

    return check
