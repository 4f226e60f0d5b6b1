"""What a module does under an adapter: which statistics, dropout on or off."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

Statistics = Literal["running", "batch"]
_STATISTICS = ("running", "batch")


@dataclass(frozen=True)
class Mode:
    """Evaluation or training, told apart for normalisation and for dropout.

    Attributes:
        batch_statistics: BatchNorm normalises by the batch and updates its running averages.
        dropout: dropout and other noise layers are on.
    """

    batch_statistics: bool
    dropout: bool

    def for_step(self, who: str, train: bool, key: Any, dropout_key: Any) -> tuple[Mode, Any]:
        """The mode and key of one `apply`: this mode evaluates, `train` overrides it."""
        if not train:
            return self, dropout_key
        if key is not None:
            check_key(who, "key", key)
        return Mode(batch_statistics=True, dropout=True), dropout_key if key is None else key

    @property
    def flags(self) -> Mapping[str, bool]:
        """The value of every flag by which modules are told their mode, by its name."""
        training = self.batch_statistics or self.dropout
        return {
            "use_running_average": not self.batch_statistics,
            "update_stats": self.batch_statistics,
            "deterministic": not self.dropout,
            "train": training,
            "training": training,
            "is_train": training,
            "is_training": training,
            "eval": not training,
            "inference": not training,
        }

    def call_flags(self, signature: inspect.Signature) -> dict[str, bool]:
        """The flags among the parameters of a module's `__call__`, with their values."""
        return {
            name: value
            for name, value in self.flags.items()
            if name in signature.parameters
            and is_flag_value(signature.parameters[name].default, or_missing=True)
        }


def is_flag_value(value: Any, *, or_missing: bool = False) -> bool:
    """Whether this can be the value of a flag: a bool, None, or (if so asked) no default."""
    return (
        value is None
        or isinstance(value, bool | np.bool_)
        or (or_missing and value is inspect.Parameter.empty)
    )


def check_mode(who: str, statistics: Any, dropout_key: Any) -> Mode:
    """Check the arguments that `function` and `functional` share.

    Raises:
        ValueError: `statistics` is neither "running" nor "batch".
        TypeError: `dropout_key` is neither None nor a key.
    """
    if not isinstance(statistics, str) or statistics not in _STATISTICS:
        raise ValueError(
            f'{who}: statistics must be "running" (BatchNorm by its running averages, rows '
            'independent) or "batch" (by the batch, rows coupled), '
            f"got {statistics!r}."
        )
    if dropout_key is not None:
        check_key(who, "dropout_key", dropout_key)
    return Mode(batch_statistics=statistics == "batch", dropout=dropout_key is not None)


def check_key(who: str, name: str, key: Any) -> None:
    """Raise a TypeError unless `key` is one PRNG key, typed or of raw uint32 data."""
    if isinstance(key, jax.Array | np.ndarray):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return
        got = f"an array {key.dtype}{list(key.shape)}"
    else:
        got = f"{type(key).__name__} {key!r}"
    raise TypeError(f"{who}: {name} must be one PRNG key, jax.random.key(0) say; got {got}.")


def arrange_call(
    who: str, signature: inspect.Signature, inputs: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Lay out a call: `inputs` in order, around the parameters that `named` fills by name.

    The first parameter is always the first input, whatever its name, so that an
    equilibrium cell may call it `state`. Names that the signature lacks are left out.

    Raises:
        TypeError: there are more inputs than parameters to take them.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    waiting = list(inputs)
    by_keyword = False
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        taken = index > 0 and name in named
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(waiting)
            waiting.clear()
            by_keyword = True
        elif parameter.kind is parameter.VAR_KEYWORD:
            continue
        elif parameter.kind is parameter.KEYWORD_ONLY or by_keyword:
            if taken:
                keywords[name] = named[name]
        elif taken:
            positional.append(named[name])
        elif waiting:
            positional.append(waiting.pop(0))
        else:
            by_keyword = True
    if waiting:
        raise TypeError(
            f"{who}: got {len(inputs)} inputs, but the module is called as "
            f"__call__{signature}, which has no place for the last {len(waiting)}."
        )
    return positional, keywords


def wrong_module(who: str, expected: str, got: Any) -> TypeError:
    """The error for something that is not a module of the adapter's framework."""
    for base in type(got).__mro__:
        root = ".".join(base.__module__.split(".")[:2])
        if root in _FRAMEWORKS and base.__name__ == "Module":
            kind, adapter = _FRAMEWORKS[root]
            return TypeError(
                f"{who}: expected {expected}, got {type(got).__name__}, which is {kind}. "
                f"Use {adapter}.{who.split('.')[-1]}."
            )
    if callable(got):
        name = getattr(got, "__name__", type(got).__name__)
        return TypeError(
            f"{who}: expected {expected}, got the plain callable {name!r}. A function of a batch "
            "needs no adapter: pass it to jacreg.linearize directly."
        )
    return TypeError(f"{who}: expected {expected}, got {type(got).__name__}.")


_FRAMEWORKS = {
    "flax.nnx": ("a Flax nnx module", "jacreg.nnx"),
    "flax.linen": ("a Flax linen module", "jacreg.linen"),
    "equinox._module": ("an Equinox module", "jacreg.eqx"),
}
