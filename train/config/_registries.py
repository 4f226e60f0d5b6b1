"""What a config can name: the registries of the project, as parsing takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from models._networks import FRAMEWORKS, NETWORKS
from train.data import builtin_keys
from train.expect import Key, keys_of
from train.methods import METHODS, make_method
from train.named import Choice
from train.networks import completed, model_keys
from train.optimizers import OPTIMIZERS
from train.penalties import PENALTIES
from train.schedules import SCHEDULES, make_schedule
from train.sections import Model
from train.tasks import TASKS


@dataclass(frozen=True)
class Registries:
    """What the keys of a config may name.

    Attributes:
        names: of each registry by the name in `Row`, where the value is a name alone.
        choices: of each registry by the name in `Row`, where the value is a `Named`.
        options: of a section whose rows have options, `row -> its further keys`.
        completed: the model's section with what it leaves open; raises where it does not fit.
    """

    names: Mapping[str, Collection[str]]
    choices: Mapping[str, Choice]
    options: Mapping[str, Callable[[str], dict[str, Key]]]
    completed: Callable[[Model], Model]


REGISTRIES = Registries(
    names={
        "framework": FRAMEWORKS,
        "model": NETWORKS,
        "task": TASKS,
        "penalty": PENALTIES,
        "optimizer": OPTIMIZERS,
    },
    choices={
        "method": Choice(METHODS, make_method),
        "schedule": Choice(SCHEDULES, make_schedule),
    },
    options={
        "data": builtin_keys,
        "model": model_keys,
        "task": lambda name: keys_of(TASKS[name]),
        "penalty": lambda name: keys_of(PENALTIES[name].compute),
    },
    completed=completed,
)
