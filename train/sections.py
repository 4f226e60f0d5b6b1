"""The sections of a config, as frozen dataclasses: the fields are the keys.

A section that names a row of a registry (`model.name`, `penalty.N.name`, ...) takes that row's
options as further keys; they stand in `options`. A key marked with `Row` accepts the names of a
registry; which these are, parsing is told (`train.config`), so that whatever a registry lists may
read a section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from train.expect import NO_KEY, either, integer, number, sequence, string
from train.named import Named, Row

if TYPE_CHECKING:
    from optax import GradientTransformation

NUMBERS = either(number(), sequence(number()))
SCALES = either(number(above=0), sequence(number(above=0)))
RADII = sequence(number(above=0))
LEVELS = sequence(number(above=0, most=1))
CONSTANT = Named("constant")
# What Python gives in place of a name: no key, and in no file.
_NO_KEY: Mapping[str, Any] = {NO_KEY: True}
Schedule = Annotated[Named, Row("schedule")]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the run is called (also its default workdir `runs/<name>`) and its seed."""

    name: str
    seed: Annotated[int, integer(least=0, most=2**32 - 1)] = 0


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the examples come from: a built-in or hub `name`, or a local `path`, which wins.

    The tables (`csv`, `red-wine`, ...) need both: the name says how to read what `path` holds.
    Pixels come to [0, 1], then `(x - mean) / std`, one number or one a channel. What is black
    and white, `pixel_range`, where the channels are, `image_axes`, and the `background` of what
    is transparent are read from the pictures; where these do not tell, they must be said.
    Other keys are the built-in's own.
    """

    name: str | None = None
    path: str | None = None
    batch_size: Annotated[int, integer(least=1)] = 100
    samples_per_class: Annotated[int | None, integer(least=1)] = None
    mean: Annotated[float | tuple[float, ...], NUMBERS] = 0.0
    std: Annotated[float | tuple[float, ...], SCALES] = 1.0
    image_column: str | None = None
    label_column: str | None = None
    pixel_range: Annotated[tuple[float, float] | None, sequence(number(), 2)] = None
    image_axes: Literal["HWC", "CHW"] | None = None
    background: Literal["white", "black"] | None = None
    test_fraction: Annotated[float, number(above=0, most=0.9)] = 0.2
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Any = field(default=None, compare=False, repr=False, metadata=_NO_KEY)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network of `models.build`, its framework and layout; other keys are the network's own.

    `framework` is nnx where it is left out, or Equinox for a network that nnx has not.

    Or a class of one's own: `target = "package.module:Name"`, with `options = {...}` for its
    constructor, which gets `rngs=` (nnx) or `key=` (Equinox) beside them. `name` is then the
    target, and `layout` brings images, N, H, W, C, into the order of axes that it takes.
    """

    name: Annotated[str, Row("model")]
    framework: Annotated[str | None, Row("framework")] = None
    layout: Annotated[tuple[str, str, str] | None, sequence(string(), 3)] = None
    target: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Any = field(default=None, compare=False, repr=False, metadata=_NO_KEY)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learnt; other keys are the task's own."""

    name: Annotated[str, Row("task")]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """One term `weight * schedule(step) * mean(penalty)`; other keys are the penalty's own.

    `every = k` computes it at each k-th step with k times the weight, `probability = p` at
    random steps with 1 / p times the weight, `fraction = f` on a random share of each batch's rows,
    each with 1 / f times the weight. `statistics` says which Jacobian is meant under
    BatchNorm: of an example where the batch's statistics are held (`jacreg.hold_statistics`), the
    block of the training pass, or that of the evaluation pass.
    """

    name: Annotated[str, Row("penalty")]
    weight: Annotated[float, number(least=0)]
    method: Annotated[Named | None, Row("method")] = None
    schedule: Schedule = CONSTANT
    every: Annotated[int, integer(least=1)] = 1
    probability: Annotated[float, number(above=0, most=1)] = 1.0
    fraction: Annotated[float, number(above=0, most=1)] = 1.0
    statistics: Literal["held", "batch", "running"] = "held"
    options: Mapping[str, Any] = field(default_factory=dict)
    given: Callable[..., Any] | None = field(
        default=None, compare=False, repr=False, metadata=_NO_KEY
    )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optax optimiser. `momentum` is SGD's momentum and Adam's b1.

    `weight_decay` is the L2 term added to the gradient (as in PyTorch's SGD and Adam);
    with `adamw` it is decoupled.
    """

    name: Annotated[str, Row("optimizer")] = "sgd"
    learning_rate: Annotated[float, number(above=0)] = 0.1
    momentum: Annotated[float, number(least=0, most=0.999999)] = 0.9
    weight_decay: Annotated[float, number(least=0)] = 0.0
    clip_norm: Annotated[float | None, number(above=0)] = None
    schedule: Schedule = CONSTANT
    given: GradientTransformation | None = field(
        default=None, compare=False, repr=False, metadata=_NO_KEY
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long, and how often to log, evaluate and checkpoint (0: at the end only).

    `accumulate = k` takes each batch in k parts of equal size, one after the other, with the
    gradient of the whole: for batches that do not fit. `remat` computes the pass again during
    the backward pass instead of keeping it in memory. `precision = "bfloat16"` computes the
    network in bfloat16; parameters, losses and what penalties sum stay float32.
    """

    steps: Annotated[int, integer(least=1, most=10**9)]
    log_every: Annotated[int, integer(least=1)] = 50
    eval_every: Annotated[int, integer(least=0)] = 0
    checkpoint_every: Annotated[int, integer(least=0)] = 500
    accumulate: Annotated[int, integer(least=1)] = 1
    remat: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What the final evaluation measures. Noise and attacks are in pixel units [0, 1], clipped.

    Noise, attacks and decision cells are those of the task `classification`; the others have their
    own measures and leave these keys aside. Inputs that are no pixels are perturbed in their own
    units and not clipped.

    `certified` are l2 radii in the same units: the share of predictions that provably do not change
    within each, from a bound of the network's Lipschitz constant, beside an l2 attack within it.

    `attack_examples` and `jacobian_examples` use the first so many test examples, 0 for all.
    """

    batch_size: Annotated[int, integer(least=1)] = 500
    jacobian: bool = True
    jacobian_examples: Annotated[int, integer(least=0)] = 0
    noise: Annotated[tuple[float, ...], LEVELS] = (0.1, 0.2, 0.3)
    fgsm: Annotated[tuple[float, ...], LEVELS] = (0.1,)
    pgd: Annotated[tuple[float, ...], LEVELS] = (0.1,)
    certified: Annotated[tuple[float, ...], RADII] = ()
    pgd_steps: Annotated[int, integer(least=1)] = 20
    attack_examples: Annotated[int, integer(least=0)] = 1000
    decision_cells: bool = True


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Devices along the batch, over all hosts together, and hosts.

    Where they are is no part of what a run computes: a run may go on with other devices.
    """

    data: Annotated[int, integer(least=1)] = 1
    hosts: Annotated[int, integer(least=1)] = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole config. `[[penalty]]` is a list of tables, possibly empty."""

    experiment: Experiment
    data: Data
    model: Model
    task: Task
    penalty: tuple[Penalty, ...] = ()
    optimizer: Optimizer = field(default_factory=Optimizer)
    training: Training
    evaluation: Evaluation = field(default_factory=Evaluation)
    parallel: Parallel = field(default_factory=Parallel)


SECTIONS: Mapping[str, type] = {
    "experiment": Experiment,
    "data": Data,
    "model": Model,
    "task": Task,
    "penalty": Penalty,
    "optimizer": Optimizer,
    "training": Training,
    "evaluation": Evaluation,
    "parallel": Parallel,
}
