"""Training steps of flows and of score matching against hand-written ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jacreg
import jacreg.eqx
import models
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, timed
from jacreg._probes import draw
from jacreg.flow import FlowSolver, log_density
from jacreg.flow._runge_kutta import RungeKutta4

_KEY = jax.random.key(0)
_ADAM = optax.adam(1e-3)
_TRACE_KEY = jax.random.key(3)


def compare() -> list[Comparison]:
    """Time a training step of each, on equal losses and gradients."""
    return [*_flows(), *_scores(), _images()]


def _flows() -> list[Comparison]:
    """Ours against one example's solve under vmap, as diffrax's example of a CNF has it."""
    rows = []
    for dimensions, batch, solver, probes in (
        (2, 256, FlowSolver("rk4"), False),
        (16, 64, FlowSolver("rk4"), False),
        (16, 64, FlowSolver("rk4"), True),
        (2, 256, FlowSolver("dopri5", rtol=1e-3, atol=1e-3), False),
    ):
        model = models.build("flow", framework="equinox", key=_KEY, input_shape=(dimensions,))
        xs = jax.random.normal(jax.random.key(1), (batch, dimensions))
        adaptive = solver.method == "dopri5"
        trace = "one probe" if probes else "exact trace"
        setting = f"{dimensions}-D, batch {batch}, {solver.method}, {trace}"
        note = "ours one step size for the batch, theirs one an example" if adaptive else ""
        rows.append(
            _steps(
                "flow training step", setting, "the form of diffrax's CNF example", model, xs,
                _our_flow(solver, probes), _their_flow(solver, probes),
                tolerance=1e-2 if adaptive else 1e-4, note=note,
            )
        )  # fmt: skip
    images = jax.random.normal(jax.random.key(1), (16, 3, 12, 12))
    solver = FlowSolver("rk4")
    rows.append(
        _steps(
            "flow training step", "two convolutions on 12x12x3, batch 16, rk4, one probe",
            "the form of diffrax's CNF example", _Convolutions(), images,
            _our_flow(solver, True), _their_flow(solver, True),
        )
    )  # fmt: skip
    return rows


class _Convolutions(eqx.Module):
    """A field on images as one writes it in Equinox."""

    first: eqx.nn.Conv2d
    last: eqx.nn.Conv2d

    def __init__(self) -> None:
        keys = jax.random.split(_KEY)
        self.first = eqx.nn.Conv2d(3, 16, 3, padding="SAME", key=keys[0])
        self.last = eqx.nn.Conv2d(16, 3, 3, padding="SAME", key=keys[1])

    def __call__(self, x: Any, t: Any) -> Any:
        return self.last(jax.nn.softplus(self.first(x) + t))


def _our_flow(solver: FlowSolver, probes: bool) -> Callable[[Any, Any], Any]:
    method = jacreg.Hutchinson() if probes else jacreg.Auto()

    def loss(model: Any, xs: Any) -> Any:
        field = jacreg.eqx.function(model)
        found = log_density(field, xs, solver=solver, method=method, key=_TRACE_KEY)
        assert found.log_density is not None
        return -jnp.mean(found.log_density)

    return loss


def _their_flow(solver: FlowSolver, probes: bool) -> Callable[[Any, Any], Any]:
    if solver.method == "rk4":
        method, control = RungeKutta4(), diffrax.ConstantStepSize()
        first, steps = solver.step_size, 5
    else:
        method, control = (
            diffrax.Dopri5(),
            diffrax.PIDController(rtol=solver.rtol, atol=solver.atol),
        )
        first, steps = 0.01, solver.max_steps

    def loss(model: Any, xs: Any) -> Any:
        def one(x: Any, probe: Any) -> Any:
            def rates(t: Any, state: Any, args: Any) -> Any:
                value, pull = jax.vjp(lambda y: model(y, t), state[0])
                if probes:
                    return value, jnp.sum(pull(probe)[0] * probe)
                (rows,) = jax.vmap(pull)(jnp.eye(x.size))
                return value, jnp.trace(rows)

            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(rates), method, t0=0.0, t1=solver.end_time, dt0=first,
                y0=(x, jnp.zeros(())), stepsize_controller=control, max_steps=steps,
            )  # fmt: skip
            assert solution.ys is not None
            (latent,), (trace,) = solution.ys
            return trace - 0.5 * jnp.sum(latent**2) - 0.5 * x.size * jnp.log(2 * jnp.pi)

        # The same probes, so that the losses are the same.
        return -jnp.mean(jax.vmap(one)(xs, draw(_TRACE_KEY, xs, "rademacher")))

    return loss


def _scores() -> list[Comparison]:
    """Exact and sliced score matching of a dense network against the loss written out."""
    model = eqx.nn.MLP(32, 32, 256, 3, jax.nn.softplus, key=_KEY)
    xs = jax.random.normal(jax.random.key(1), (128, 32))

    def exact(model: Any, xs: Any) -> Any:
        lin = jacreg.linearize(jax.vmap(model), xs)
        return jnp.mean(jacreg.losses.implicit_score_matching(lin))

    def exact_by_hand(model: Any, xs: Any) -> Any:
        traces = jax.vmap(lambda x: jnp.trace(jax.jacfwd(model)(x)))(xs)
        return jnp.mean(traces + 0.5 * jnp.sum(jax.vmap(model)(xs) ** 2, axis=1))

    def sliced(model: Any, xs: Any) -> Any:
        lin = jacreg.linearize(jax.vmap(model), xs)
        return jnp.mean(jacreg.losses.sliced_score_matching(lin, key=_TRACE_KEY))

    def sliced_by_hand(model: Any, xs: Any) -> Any:
        probes = draw(_TRACE_KEY, xs, "rademacher")
        slopes = jax.vmap(jax.grad(lambda x, v: jnp.sum(model(x) * v)))(xs, probes)
        return jnp.mean(
            jnp.sum(slopes * probes, axis=1) + 0.5 * jnp.sum(jax.vmap(model)(xs) ** 2, axis=1)
        )

    setting = "MLP 32-256-256-256-32, batch 128"
    return [
        _steps(
            "exact score matching step", setting, "vmap(trace(jacfwd)) and the norm", model, xs,
            exact, exact_by_hand,
        ),
        _steps(
            "sliced score matching step", setting, "vmap(grad) of v s(x) and the norm", model, xs,
            sliced, sliced_by_hand,
        ),
    ]  # fmt: skip


def _images() -> Comparison:
    """Exact score matching on images against 48 slices at once."""
    model = models.build(
        "score_conv", framework="equinox", key=_KEY, input_shape=(28, 28, 1), widths=(16, 16)
    )
    xs = jax.random.normal(jax.random.key(1), (8, 28, 28, 1))
    lin = jacreg.linearize(jacreg.eqx.function(model), xs[:1])
    traces = [jacreg.divergence(lin, method) for method in (jacreg.Auto(), jacreg.Exact(784))]
    difference = assert_equal(traces[0], traces[1], 1e-4)

    def exact(model: Any, xs: Any) -> Any:
        lin = jacreg.linearize(jacreg.eqx.function(model), xs)
        return jnp.mean(jacreg.losses.implicit_score_matching(lin))

    def slices(model: Any, xs: Any) -> Any:
        scores, push = jax.linearize(jax.vmap(model), xs)
        probes = jax.random.rademacher(_TRACE_KEY, (48, *xs.shape), xs.dtype)
        curvature = jnp.sum(probes * jax.vmap(push)(probes)) / 48
        return (curvature + 0.5 * jnp.sum(scores**2)) / len(xs)

    calls = {"ours": _step(model, xs, exact), "theirs": _step(model, xs, slices)}
    return timed(
        in_turns(calls, rounds=5), "ours", "theirs", work="exact score matching step on images",
        setting="three 3x3 convolutions on 28x28, batch 8",
        peer="48 slices at once", most=1.5, agreement=difference,
        note="theirs is an estimate, ours has no variance; equal to the dense trace",
    )  # fmt: skip


def _steps(
    work: str, setting: str, peer: str, model: Any, xs: Any,
    ours: Callable[[Any, Any], Any], theirs: Callable[[Any, Any], Any],
    *, tolerance: float = 1e-4, note: str = "",
) -> Comparison:  # fmt: skip
    gradients = [eqx.filter_jit(eqx.filter_grad(loss))(model, xs) for loss in (ours, theirs)]
    flat = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(g, eqx.is_array))])
        for g in gradients
    ]
    difference = assert_equal(flat[0], flat[1], tolerance)
    times = in_turns({"ours": _step(model, xs, ours), "theirs": _step(model, xs, theirs)})
    return timed(
        times, "ours", "theirs", work=work, setting=setting, peer=peer, most=1.0,
        agreement=difference, note=note,
    )  # fmt: skip


def _step(model: Any, xs: Any, loss: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """One compiled step of Adam from the same start."""
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = _ADAM.init(params)

    def step(params: Any, state: Any, xs: Any) -> Any:
        value, gradient = jax.value_and_grad(lambda p: loss(eqx.combine(p, static), xs))(params)
        updates, state = _ADAM.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    compiled = jax.jit(step).lower(params, state, xs).compile()
    return lambda: compiled(params, state, xs)
