"""What a module does under an adapter: which statistics, dropout on or off."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ._keys import check_key

Statistics = Literal["running", "batch"]
_STATISTICS = ("running", "batch")

# Names by which models are told their mode, each with its value in training.
_NORM_FLAGS = {"use_running_average": False, "update_stats": True, "use_batch_stats": True}
_NOISE_SWITCHES = {"deterministic": False, "enable_dropout": True, "disable_dropout": False}
_NOISE_FLAGS = {**_NOISE_SWITCHES, "use_dropout": True, "apply_dropout": True, "dropout": True}
_BOTH_FLAGS = {
    **dict.fromkeys(("train", "training", "is_train", "is_training", "train_mode"), True),
    **dict.fromkeys(("eval", "is_eval", "eval_mode", "evaluate", "inference"), False),
    **dict.fromkeys(("is_inference", "test", "testing", "is_test"), False),
}


@dataclass(frozen=True)
class Mode:
    """Evaluation or training, told apart for normalisation and for dropout.

    Attributes:
        batch_statistics: BatchNorm normalises by the batch and updates its running averages.
        dropout: dropout and other noise layers are on; None: as the call itself has them,
            because its random streams came with the options.
    """

    batch_statistics: bool
    dropout: bool | None

    def for_step(self, who: str, train: bool, key: Any, dropout_key: Any) -> tuple[Mode, Any]:
        """The mode and key of one `apply`: this mode evaluates, `train` overrides it."""
        if not train:
            return self, dropout_key
        if key is not None:
            check_key(who, "key", key)
            return Mode(batch_statistics=True, dropout=True), key
        own = None if self.dropout is None else True
        return Mode(batch_statistics=True, dropout=own), dropout_key

    @property
    def flags(self) -> dict[str, bool]:
        """The value of every flag by which a call is told its mode, by its name."""
        training = True if self.batch_statistics else self.dropout
        told = (
            (_NORM_FLAGS, self.batch_statistics),
            (_NOISE_FLAGS, self.dropout),
            (_BOTH_FLAGS, training),
        )
        return {
            name: value if level else not value
            for flags, level in told
            if level is not None
            for name, value in flags.items()
        }

    @property
    def attributes(self) -> dict[str, bool]:
        """The flags that may be attributes of a module: `use_dropout` there is a design."""
        design = _NOISE_FLAGS.keys() - _NOISE_SWITCHES.keys()
        return {name: value for name, value in self.flags.items() if name not in design}

    def call_flags(self, signature: inspect.Signature) -> dict[str, bool]:
        """The flags among the parameters of a model's call, with their values."""
        return {
            name: value
            for name, value in self.flags.items()
            if name in signature.parameters
            and is_flag_value(signature.parameters[name].default, or_missing=True)
        }


def flag_names(signature: inspect.Signature) -> set[str]:
    """The parameters of a call that tell its mode, whether this mode sets them or not."""
    everything = Mode(batch_statistics=True, dropout=True)
    return set(everything.call_flags(signature))


def is_flag(name: str, value: Any) -> bool:
    """Whether an option of a call tells its mode."""
    return name in {**_NORM_FLAGS, **_NOISE_FLAGS, **_BOTH_FLAGS} and is_flag_value(value)


def is_flag_value(value: Any, *, or_missing: bool = False) -> bool:
    """Whether this can be the value of a flag: a bool, None, or (if so asked) no default."""
    return (
        value is None
        or isinstance(value, bool | np.bool_)
        or (or_missing and value is inspect.Parameter.empty)
    )


def check_mode(
    who: str, statistics: Any, dropout_key: Any, options: Mapping[str, Any], streams: str
) -> Mode:
    """Check the arguments that `function` and `functional` share.

    Args:
        who: the public function.
        statistics: as given.
        dropout_key: as given.
        options: the keyword options of the model's call.
        streams: the option that holds the call's own random streams.

    Raises:
        ValueError: `statistics` is neither "running" nor "batch", or an option says the
            opposite of `statistics` or `dropout_key`.
        TypeError: `dropout_key` is neither None nor a key.
    """
    if not isinstance(statistics, str) or statistics not in _STATISTICS:
        raise ValueError(
            f'{who}: statistics must be "running" (BatchNorm by its running averages, rows '
            'independent) or "batch" (by the batch, rows coupled), '
            f"got {statistics!r}."
        )
    own = options.get(streams) is not None
    if dropout_key is not None:
        check_key(who, "dropout_key", dropout_key)
        if own:
            raise ValueError(
                f"{who}: got dropout_key and {streams}, which both say what is drawn. dropout_key "
                f"turns every noise layer on; {streams} goes to the call, whose own flags decide. "
                "Leave one of them out."
            )
    dropout = None if own else dropout_key is not None
    mode = Mode(batch_statistics=statistics == "batch", dropout=dropout)
    for name, value in options.items():
        if is_flag(name, value) and value is not None and value != mode.flags.get(name, value):
            raise ValueError(f"{who}: {_contradiction(name, bool(value))}")
    return mode


def _contradiction(name: str, value: bool) -> str:
    if name in _NORM_FLAGS:
        said = "batch" if value == _NORM_FLAGS[name] else "running"
        return f'{name}={value} asks for {said} statistics; write statistics="{said}" instead.'
    training = value == {**_NOISE_FLAGS, **_BOTH_FLAGS}[name]
    if name in _NOISE_FLAGS:
        advice = "write dropout_key=key instead" if training else "leave dropout_key out"
        return f"{name}={value} asks for dropout {'on' if training else 'off'}; {advice}."
    if training:
        return (
            f"{name}={value} asks for training, and here it is said which part of it: write "
            'statistics="batch" (BatchNorm by the batch), dropout_key=key (dropout on) or both; '
            "either sets whatever flags the call has."
        )
    return (
        f"{name}={value} asks for evaluation, against statistics or dropout_key; leave {name} out "
        'where it shall train, or those two for evaluation (statistics="running", no dropout_key).'
    )


def wrong_module(who: str, expected: str, got: Any) -> TypeError:
    """The error for something that is not a module of the adapter's framework."""
    if inspect.isclass(got) and framework_of(got) is not None:
        return TypeError(
            f"{who}: expected {expected}, got the class {got.__name__} itself; pass a model made "
            f"of it, {got.__name__}(...)."
        )
    framework = framework_of(type(got))
    if framework is not None:
        kind, adapter = framework
        return TypeError(
            f"{who}: expected {expected}, got {type(got).__name__}, which is {kind}. "
            f"Use {adapter}.{who.split('.')[-1]}."
        )
    if inspect.ismethod(got) and framework_of(type(got.__self__)) is not None:
        owner = type(got.__self__).__name__
        return TypeError(
            f"{who}: expected {expected}, got the method {got.__name__} of {owner}. "
            f'Pass the model and name the method: method="{got.__name__}".'
        )
    if framework_of(type(getattr(got, "__wrapped__", None))) is not None:
        return TypeError(
            f"{who}: expected {expected}, got a transformed module, {type(got).__name__}. Pass "
            "the module itself and jit the step around it."
        )
    if callable(got):
        name = getattr(got, "__name__", type(got).__name__)
        return TypeError(
            f"{who}: expected {expected}, got the plain callable {name!r}. A function of a batch "
            "needs no adapter: pass it to jacreg.linearize directly."
        )
    return TypeError(f"{who}: expected {expected}, got {type(got).__name__}.")


def framework_of(cls: type) -> tuple[str, str] | None:
    """What a class of modules is, in words, and the adapter of its framework."""
    for base in cls.__mro__:
        root = ".".join(base.__module__.split(".")[:2])
        if root in _FRAMEWORKS and base.__name__ == "Module":
            return _FRAMEWORKS[root]
    return None


_FRAMEWORKS = {
    "flax.nnx": ("a Flax nnx module", "jacreg.nnx"),
    "flax.linen": ("a Flax linen module", "jacreg.linen"),
    "equinox._module": ("an Equinox module", "jacreg.eqx"),
}
