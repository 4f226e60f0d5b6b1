"""Score matching: a field s(x) for the gradient of the data's log density, and its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from train.errors import ConfigError
from train.expect import integer, number, sequence
from train.methods import METHODS, Resolver, make_method
from train.named import Choice, Named
from train.networks import BuiltModel, build_model, check_field
from train.objective import Pass, penalised
from train.penalties import Sources
from train.problem import Problem
from train.sampling import SAMPLERS
from train.step import INIT_PURPOSE, purpose_key
from train.tasks._scaling import scaling
from train.tasks._score_losses import LINEARISED, Loss, Matching, check_options
from train.tasks._score_report import Inputs, make_evaluate, make_report
from train.terms import make_terms

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from train.data import Dataset
    from train.problem import Setting

# What gives a trace.
TRACES = {
    name: METHODS[name]
    for name in ("auto", "coloring", "exact", "hutchinson", "hutch_plus_plus", "xtrace", "choose")
}


def score(
    setting: Setting,
    dataset: Dataset,
    *,
    loss: Loss = "sliced_vr",
    method: Annotated[Named | None, Choice(TRACES, make_method)] = None,
    num_probes: Annotated[int, integer(least=1)] = 1,
    scale: Annotated[float | None, number(above=0)] = None,
    scales: Annotated[tuple[float, float] | None, sequence(number(above=0), 2)] = None,
    smoothing: Annotated[float, number(least=0)] = 0.0,
    divergence_weight: Annotated[float, number(least=0, most=1)] = 1.0,
    sampler: Annotated[Named | None, Choice(SAMPLERS)] = None,
    num_samples: Annotated[int, integer(least=1, most=100_000)] = 64,
) -> Problem:
    """The score of the data, grad log p(x), by one of five losses, and samples by it.

    Args:
        setting, dataset: of the run; targets are not used.
        loss: "implicit" (Hyvarinen's, with the trace by `method`), "sliced" and "sliced_vr"
            (`num_probes` slices), "denoising" (`scale` is the noise) or "finite_difference"
            (`scale` is the step).
        method: of the trace; a colouring where left out, so exact.
        num_probes: slices an example.
        scale: noise or step in units of the network's input.
        scales: least and largest noise level of a conditional network: each example draws a
            level, uniform in its logarithm, and its loss counts level^2 times.
        smoothing: deviation of Gaussian noise added to the data before a loss that reads
            the score's Jacobian: pixels are discrete and have no score without it.
        divergence_weight: of the term that stands for the divergence of the score, beside
            1/2 norm(s)^2; with 0 that square alone is left, which the score 0 minimises.
            `test/score_matching` always takes it whole.
        sampler: how samples are drawn at the end, none where left out.
        num_samples: how many.

    Raises:
        ConfigError: the network is no field on the data, or the options do not fit together.
    """
    check_options(loss, method, num_probes, scale, smoothing, scales)
    _check_sampler(sampler, scales)
    key = purpose_key(setting.seed, INIT_PURPOSE)
    model = build_model(
        setting.model, dataset, int(np.prod(dataset.input_shape)), key, setting.training.precision
    )
    dataset = model.arrange(dataset)
    pixels, normalize = scaling(setting.data, dataset, model.channel_axis)
    field = ScoreField(model, setting.model.options.get("conditional") is True)

    def rows(count: int) -> tuple[Any, ...]:
        xs = normalize(pixels(dataset.train.inputs[:count]))
        return (xs,) if scales is None else (xs, jnp.full(len(xs), scales[1], xs.dtype))

    field.check(rows(2)[0], scales)

    def train_pass(xs: Any, *levels: Any) -> Any:
        return field(model.params, model.state, xs, *levels, train=True, key=key)

    resolve = Resolver(train_pass, rows)
    matching = Matching(
        loss,
        method=resolve(make_method(method or Named("auto"), "task.method"), "divergence")
        if loss == "implicit"
        else None,
        num_probes=num_probes,
        scale=scale,
        smoothing=smoothing,
        scales=scales,
    )
    terms = make_terms(setting.penalty, setting.training.steps, resolve=resolve)
    forward = make_forward(field, matching, divergence_weight)

    def prepare(raw: Any) -> Any:
        return normalize(pixels(raw))

    inputs = Inputs(setting.data, dataset, prepare, model.axes)
    return Problem(
        params=model.params,
        state=model.state,
        examples={"inputs": dataset.train.inputs},
        prepare=lambda rows: (prepare(rows["inputs"]), None),
        objective=penalised(forward, terms),
        evaluate=make_evaluate(setting, inputs, field, matching, forward),
        report=make_report(setting, inputs, field, matching, sampler, num_samples),
        choices=tuple(resolve.chosen),
        notes={"trace": repr(matching.method)} if loss == "implicit" else {},
    )


class ScoreField:
    """The score that a network stands for, `[N, *in] -> [N, *in]`.

    A conditional network F gives, at noise level t of data of variance about 1,
    s(x, t) = -x / (1 + t^2) + F(x / sqrt(1 + t^2), log(t) / 4) / (t sqrt(1 + t^2)):
    the score of white noise, which is right for large t, and a correction of size 1 / t.
    """

    def __init__(self, model: BuiltModel, conditional: bool) -> None:
        self.model = model
        self.conditional = conditional

    def __call__(
        self, params: Any, state: Any, xs: Any, *levels: Any, train: bool = False, key: Any = None
    ) -> Float[Array, "N *in"]:
        """Return the score at `xs`; a conditional network takes levels `[N]` too."""
        apply = self.model.apply
        if not levels:
            return apply(params, state, xs, train=train, key=key)[0]
        level = levels[0].reshape((-1,) + (1,) * (xs.ndim - 1))
        spread = jnp.sqrt(1 + level**2)
        ys, _ = apply(params, state, xs / spread, jnp.log(levels[0]) / 4, train=train, key=key)
        return ys / (level * spread) - xs / spread**2

    def check(self, sample: Array, scales: tuple[float, float] | None) -> None:
        """Raise unless the network is a field on the data, with a condition where it needs one.

        Raises:
            ConfigError: it is not.
        """
        name = self.model.name
        if scales is not None and not self.conditional:
            raise ConfigError(
                f'task.scales: got {list(scales)}, but the network "{name}" is not told the noise '
                "level; set model.conditional=true (score_conv, score_unet, score_mlp), or give "
                "one level (task.scale of denoising, task.smoothing of the others)."
            )
        if scales is None and self.conditional:
            raise ConfigError(
                "model.conditional: got true, expected false without task.scales; or give the "
                "range of noise levels, such as task.scales=[0.05, 5.0]."
            )
        levels = () if scales is None else (jnp.full(len(sample), scales[1], sample.dtype),)
        check_field(
            name,
            lambda xs: self(self.model.params, self.model.state, xs, *levels),
            sample,
            "field",
            ". Score networks: score_conv, score_unet, score_mlp; mlp on vectors.",
            "expected the same: a score has the shape of its input.",
        )


def make_forward(field: ScoreField, matching: Matching, divergence_weight: float = 1.0) -> Any:
    """Return the task's pass (see `train.objective`); it offers `lin`, the linearised score.

    Every loss is, in the mean over its own noise, w div s + 1/2 norm(s)^2 and a constant at
    w = 1, and 1/2 norm(s)^2 at the points under noise is mixed in for a smaller w.

    With a loss that only calls the score, `lin` is at the data under noise of its own draw and
    costs a further pass.
    """

    def forward(
        params: Any, state: Any, xs: Any, targets: Any, key: Any, needs: frozenset[str]
    ) -> Pass:
        noise_key, loss_key, model_key = jax.random.split(key, 3)
        points, args, weights = matching.at_noise(xs, noise_key)

        def score_of(xs: Any, *args: Any) -> Any:
            return field(params, state, xs, *args, train=True, key=model_key)

        linearised = matching.name in LINEARISED
        lin = None
        if linearised or "lin" in needs:
            lin = jacreg.linearize(score_of, points, *args)
        if linearised and lin is not None:
            losses = matching.of_linearised(lin, loss_key)
        else:
            clean = xs if matching.name == "denoising" else points
            losses = matching.of_calls(lambda xs: score_of(xs, *args), clean, args, loss_key)
        if divergence_weight != 1:
            values = score_of(points, *args) if lin is None else lin.value
            squares = 0.5 * jnp.sum(values**2, axis=tuple(range(1, values.ndim)))
            losses = divergence_weight * losses + (1 - divergence_weight) * squares
        return Pass(weights * losses, state, Sources(lin))

    return forward


def _check_sampler(sampler: Named | None, scales: tuple[float, float] | None) -> None:
    if sampler is None or scales is not None:
        return
    if SAMPLERS[sampler.name](**sampler.options).needs_levels:
        raise ConfigError(
            f'task.sampler: got "{sampler.name}", which walks down from large noise: it needs '
            "task.scales and model.conditional=true. With one noise level use "
            '"langevin".'
        )
