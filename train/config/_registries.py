"""What a config can name: the registries of the project, as parsing takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from models._networks import FRAMEWORKS, NETWORKS
from train.data import builtin_keys
from train.expect import Key, keys_of
from train.methods import METHODS, make_method
from train.named import Choice
from train.networks import model_keys
from train.optimizers import OPTIMIZERS
from train.penalties import PENALTIES
from train.schedules import SCHEDULES, make_schedule
from train.tasks import TASKS

# By the name in `Row`: where the value is a name alone, and where it is a `Named`.
NAMES: Mapping[str, Collection[str]] = {
    "framework": FRAMEWORKS,
    "model": NETWORKS,
    "task": TASKS,
    "penalty": PENALTIES,
    "optimizer": OPTIMIZERS,
}
CHOICES: Mapping[str, Choice] = {
    "method": Choice(METHODS, make_method),
    "schedule": Choice(SCHEDULES, make_schedule),
}
# Of a section whose rows have options, `row -> its further keys`.
OPTIONS: Mapping[str, Callable[[str], dict[str, Key]]] = {
    "data": builtin_keys,
    "model": model_keys,
    "task": lambda name: keys_of(TASKS[name]),
    "penalty": lambda name: keys_of(PENALTIES[name].compute),
}
