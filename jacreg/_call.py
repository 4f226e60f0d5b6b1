"""What `function` and `functional` were told about the call of a user's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ._mode import is_flag


@dataclass(frozen=True)
class Call:
    """What `function` and `functional` were told about the call of a model.

    Attributes:
        who: the public function, for messages.
        method: None for `__call__`, a dotted name below the model, or a function of it.
        wrt: the parameter that takes the batch; None where the signature tells.
        options: keyword options of the call, passed as they are.
    """

    who: str
    method: str | Callable[..., Any] | None = None
    wrt: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the types."""
        if not (self.method is None or isinstance(self.method, str) or callable(self.method)):
            raise TypeError(
                f'{self.who}: method must be a name, such as "encode", or a function that is '
                f"called as method(model, xs), got {self.method!r}."
            )
        if not (self.wrt is None or isinstance(self.wrt, str)):
            raise TypeError(
                f"{self.who}: wrt must be the name of the parameter that takes the batch, "
                f"got {self.wrt!r}."
            )

    def without(self, *names: str) -> Call:
        """The same call with fewer options."""
        kept = {name: value for name, value in self.options.items() if name not in names}
        return replace(self, options=kept)

    def for_step(self, train: bool, key: Any, streams: str) -> Call:
        """The call of one `apply`: where that trains, its mode and key replace the options."""
        if not train:
            return self
        told = [name for name, value in self.options.items() if is_flag(name, value)]
        return self.without(*told, *(() if key is None else (streams,)))

    def line(self, *options: str) -> str:
        """The line to write, with these options in place of what did not fit."""
        package = self.who.rsplit(".", 1)[0]
        subject = _SUBJECTS.get(package, "model")
        return f"{self.who}({', '.join((subject, *options))})"


_SUBJECTS = {"jacreg.nnx": "module", "jacreg.linen": "module, variables", "jacreg.eqx": "model"}
