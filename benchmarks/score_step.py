"""A training step of exact score matching on images against one with 48 random slices.

`python -m benchmarks.score_step [--config FILE] [--probes 48] [--batch 8] [--repeats 5]`: the
coloured trace of `configs/score/mnist-coloring.toml` against sliced score matching with
the same network, noise, batch and optimiser, the slices one after the other (as
`jacreg.losses.sliced_score_matching` takes them) and all at once. First the numbers must agree:
the coloured value with the dense one, and with the mean of independent sliced estimates
within four of their standard errors. Steps are compiled beforehand, blocked on, and taken in
turns; the deviation is that of a batch's loss over draws of the slices, at fixed data and
noise. Exit code 1 where the exact step takes more than 1.5 times as long as the faster
sliced one, or varies.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
from train import data
from train.config import load
from train.networks import build_model
from train.objective import penalised
from train.optimizers import make_optimizer
from train.progress import Reporter
from train.run import use_compilation_cache
from train.step import StepKeys, init_state, make_step
from train.tasks._score import ScoreField, make_forward
from train.tasks._score_losses import Matching

if TYPE_CHECKING:
    from train.data import Dataset
    from train.sections import Config

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "score" / "mnist-coloring.toml"
_MOST_RATIO = 1.5


@dataclass(frozen=True)
class AtOnce(Matching):
    """Variance-reduced sliced score matching with all slices in one vmap."""

    def of_linearised(self, lin: jacreg.Linearization, key: Any) -> Any:
        shape = (self.num_probes, *lin.xs.shape)
        slices = jax.random.rademacher(key, shape, lin.xs.dtype)
        curvature = jnp.sum(slices * jax.vmap(lin.jvp)(slices), axis=range(2, slices.ndim))
        norms = jnp.sum(lin.value**2, axis=range(1, lin.value.ndim))
        return jnp.mean(curvature, axis=0) + 0.5 * norms


class Setting:
    """The network of a config and one batch of its data.

    Attributes:
        field, model: the score and its network at the start.
        xs: the batch as the network takes it.
    """

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self.config = config
        self.key = jax.random.key(0)
        self.model = build_model(config.model, dataset, 0, jax.random.key(config.experiment.seed))
        self.options = config.task.options
        self.field = ScoreField(self.model, self.options["scales"] is not None)
        pixels = jnp.asarray(dataset.train.inputs[: config.data.batch_size], jnp.float32) / 255
        self.xs = (pixels - jnp.asarray(config.data.mean)) / jnp.asarray(config.data.std)

    def matching(self, cls: type[Matching], name: str, **options: Any) -> Matching:
        """Return a loss at the config's noise."""
        noise = {key: self.options[key] for key in ("scales", "smoothing")}
        return cls(name, **noise, **options)

    def score(self, points: Any, *args: Any) -> Any:
        """Return the score with the parameters of the start, as training computes it."""
        return self.field(
            self.model.params, self.model.state, points, *args, train=True, key=self.key
        )


class Step:
    """A compiled training step that goes on from its own state, always on the same rows."""

    def __init__(self, setting: Setting, matching: Matching) -> None:
        config, model = setting.config, setting.model
        objective = penalised(make_forward(setting.field, matching), [])
        optimizer = make_optimizer(config.optimizer, config.training.steps)
        step = jax.jit(make_step(objective, optimizer), donate_argnums=0)
        self.xs, self.keys = setting.xs, StepKeys.of(config.experiment.seed)
        self.state = init_state(model.params, model.state, optimizer, ["loss"])
        self.compiled = step.lower(self.state, self.xs, None, self.keys).compile()

    def seconds(self) -> float:
        """Take one step and return how long it took."""
        started = time.perf_counter()
        self.state = jax.block_until_ready(self.compiled(self.state, self.xs, None, self.keys))
        return time.perf_counter() - started


class Agreement(NamedTuple):
    """The loss of one batch with its noise fixed.

    Attributes:
        exact: the loss by colouring.
        exact_deviation: its spread over keys.
        sliced, error: the mean of the sliced estimates and its standard error.
        sliced_deviation: the standard deviation of one sliced estimate.
    """

    exact: float
    exact_deviation: float
    sliced: float
    error: float
    sliced_deviation: float


def agreement(setting: Setting, slices: Matching, coloring: Any, draws: int) -> Agreement:
    """Compute one batch's loss in three ways, at the network's start.

    Raises:
        AssertionError: they disagree.
    """
    points, args, weights = slices.at_noise(setting.xs, jax.random.key(1))

    def loss(measure: Any) -> Any:
        def run(points: Any, args: Any, weights: Any, key: Any) -> Any:
            return weights * measure(jacreg.linearize(setting.score, points, *args), key)

        return jax.jit(run)

    implicit = jacreg.losses.implicit_score_matching
    exact = loss(lambda lin, key: implicit(lin, coloring, key=key))
    dense = loss(lambda lin, key: implicit(lin, jacreg.Exact()))
    sliced = loss(slices.of_linearised)
    batch = (points, args, weights)
    few = jax.tree.map(lambda leaf: leaf[:2] if jnp.ndim(leaf) else leaf, batch)
    keys = list(jax.random.split(jax.random.key(2), draws))
    np.testing.assert_allclose(exact(*few, keys[0]), dense(*few, keys[0]), rtol=1e-4, atol=1e-3)
    values = [float(jnp.mean(exact(*batch, key))) for key in keys[:3]]
    estimates = [float(jnp.mean(sliced(*batch, key))) for key in keys]
    mean, deviation = float(np.mean(estimates)), float(np.std(estimates, ddof=1))
    error = deviation / draws**0.5
    assert abs(mean - values[0]) <= 4 * error, (
        f"the sliced mean {mean:.6g} +- {error:.2g} is not the exact {values[0]:.6g}"
    )
    return Agreement(values[0], float(np.ptp(values)), mean, error, deviation)


def main() -> int:
    """Print the table; return 1 where the exact step is too slow or varies."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score_step", description=__doc__)
    parser.add_argument("--config", type=Path, default=_CONFIG)
    parser.add_argument("--probes", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--draws", type=int, default=8)
    chosen = parser.parse_args()
    if min(chosen.repeats, chosen.draws) < 5 or min(chosen.probes, chosen.batch) < 1:
        parser.error("expected --repeats and --draws of at least 5, --probes and --batch of 1")
    use_compilation_cache()
    config = load(chosen.config, [f"data.batch_size={chosen.batch}"])
    dataset = data.load(config.data)
    setting = Setting(config, dataset)
    at_once = setting.matching(AtOnce, "sliced_vr", num_probes=chosen.probes)
    points, args, _ = at_once.at_noise(setting.xs, jax.random.key(1))
    coloring = jacreg.color(setting.score, points, *args)
    found = agreement(setting, at_once, coloring, chosen.draws)
    steps = [
        Step(setting, setting.matching(Matching, "implicit", method=coloring)),
        Step(setting, at_once),
        Step(setting, setting.matching(Matching, "sliced_vr", num_probes=chosen.probes)),
    ]
    for step in steps:
        step.seconds()
    times = np.asarray([[step.seconds() for step in steps] for _ in range(chosen.repeats)])
    medians, least = np.median(times, axis=0), times.min(axis=0)
    ratio = medians[0] / medians[1:].min()
    exact = [str(coloring.num_colors), f"{found.exact:.4f}", f"{found.exact_deviation:.4f}"]
    slices = [str(chosen.probes), f"{found.sliced:.4f}", f"{found.sliced_deviation:.4f}"]
    names = [("coloured", exact), ("slices at once", slices), ("slices in turn", slices)]
    reporter = Reporter("score step", 1)
    reporter.table(
        f"{config.model.name}, {dataset.input_shape}, batch {chosen.batch}",
        ["trace", "products", "loss", "its deviation", "median ms", "min ms"],
        [
            [name, *row, f"{1000 * median:.0f}", f"{1000 * best:.0f}"]
            for (name, row), median, best in zip(names, medians, least, strict=True)
        ],
    )
    reporter.say(
        f"sliced mean {found.sliced:.4f} +- {found.error:.4f}, exact {found.exact:.4f}; exact step "
        f"/ faster step of {chosen.probes} slices: {ratio:.2f} (at most {_MOST_RATIO})"
    )
    return int(ratio > _MOST_RATIO or found.exact_deviation != 0)


if __name__ == "__main__":
    sys.exit(main())
