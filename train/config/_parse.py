"""From TOML tables to the dataclasses of `train.sections`; all mistakes are one `ConfigError`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from train.config._registries import CHOICES, NAMES, OPTIONS
from train.errors import ConfigError, shown
from train.expect import REQUIRED, Expect, Key, keys_of, nearest, string
from train.named import Choice, Named, Row
from train.networks import completed
from train.own import is_target
from train.sections import SECTIONS, Config, Data, Experiment, Model, Optimizer, Penalty

T = TypeVar("T")
# How a file names what Python gave in its place.
GIVEN = "given"
# Of the mistakes in one config: more, and longer ones, are cut short.
_MOST_MISTAKES, _LONGEST = 5, 260
_PLAIN_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def parse(tables: Mapping[str, Any], source: str) -> Config:
    """Return the config that the parsed TOML `tables` say.

    Raises:
        ConfigError: keys are unknown, missing, mistyped or out of range; all of them are named.
    """
    try:
        return _config(tables)
    except ConfigError as error:
        raise ConfigError(f"{source}: {_told(error.args)}") from None


def _told(mistakes: tuple[str, ...]) -> str:
    """Return one line, whatever a command prints it in."""
    if len(mistakes) == 1:
        return mistakes[0]
    told = [f"{len(mistakes)} mistakes."]
    for number, each in enumerate(mistakes[:_MOST_MISTAKES], 1):
        told.append(f"({number}) {each if len(each) <= _LONGEST else f'{each[:_LONGEST]} ...'}")
    more = len(mistakes) - _MOST_MISTAKES
    if more > 0:
        told.append(f"and {more} more.")
    return " ".join(told)


class _Mistakes:
    """Notes what is wrong and goes on, so that a reader hears of everything at once."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            self.noted += error.args

    def unknown(
        self,
        names: Iterable[str],
        known: Iterable[str],
        kind: str,
        prefix: str = "",
        owners: Callable[[str], list[str]] = lambda name: [],
    ) -> set[str]:
        """Note the names that are not known; return those that they were likely meant for.

        What is misspelt is not called missing too. `owners` names the rows of the section's
        registry that have such a key.
        """
        known = list(known)
        wrong = [name for name in names if name not in known]
        self.noted += [_unknown(prefix, name, known, kind, owners(name)) for name in wrong]
        return {nearest(name, known) for name in wrong}

    def check(self) -> None:
        """Raise one error with a message for each mistake, if there is any."""
        if self.noted:
            raise ConfigError(*self.noted)


def _config(tables: Mapping[str, Any]) -> Config:
    mistakes = _Mistakes()
    misspelt = mistakes.unknown(tables, SECTIONS, "section")
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        with mistakes.noting():
            if section is Penalty:
                sections[name] = _penalties(tables.get(name, []))
            elif name in tables or (_needs(section) and name not in misspelt):
                section = _section(section, tables.get(name, {}), name, name)
                sections[name] = _checked(section)
    mistakes.check()
    return Config(**sections)


def _checked(section: Any) -> Any:
    """Return a section whose keys fit each other; raise where they do not."""
    if isinstance(section, Experiment):
        _check_experiment(section)
    elif isinstance(section, Data):
        _check_data(section)
    elif isinstance(section, Model):
        return completed(section)
    return section


def _needs(section: type) -> bool:
    required = any(key.default is REQUIRED for key in keys_of(section).values())
    return required or section is Data


def _penalties(tables: Any) -> tuple[Penalty, ...]:
    if not isinstance(tables, list):
        raise ConfigError(
            f"penalty: got {shown(tables)} ({_kind(tables)}), expected a list of tables; "
            "write each penalty under its own [[penalty]] header."
        )
    mistakes, penalties = _Mistakes(), []
    for index, table in enumerate(tables):
        with mistakes.noting():
            penalties.append(_section(Penalty, table, f"penalty.{index}", "penalty"))
    mistakes.check()
    return tuple(penalties)


def _section(section: type[T], table: Any, path: str, name: str) -> T:
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{path}: got {shown(table)} ({_kind(table)}), expected a table; write [{path}]."
        )
    keys = {key: _filled(each) for key, each in keys_of(section).items()}
    keys.pop("options", None)
    if section is Model and "target" in table:
        return _own_model(table, keys, path)
    option_keys = OPTIONS.get(name)
    if option_keys is None:
        return section(**_values(table, keys, path))
    further: dict[str, Key] = {}
    if "name" in table:
        further = option_keys(_value(table["name"], keys["name"], f"{path}.name"))
    elif keys["name"].default is REQUIRED:
        raise _missing("name", keys["name"], path)
    rows = NAMES.get(name, ())
    values = _values(
        table,
        {**further, **keys},
        path,
        lambda key: [row for row in rows if key in option_keys(row)],
    )
    own = {key: values[key] for key in values if key in keys}
    options = {key: values[key] for key in values if key not in keys}
    return section(**{**own, "options": options})


def _own_model(table: Mapping[str, Any], keys: Mapping[str, Key], path: str) -> Any:
    """Parse a model of the user's own; its options are a table, which its class alone can check."""
    if "name" in table:
        raise ConfigError(
            f"{path}: got a name and a target, expected one of them: a network of models.build, or "
            "a class of your own."
        )
    own = {name: key for name, key in keys.items() if name != "name"}
    own["options"] = Key(Expect("a table, for instance { width = 64 }", _table), {})
    values = _values(table, own, path)
    if not is_target(values["target"]):
        raise ConfigError(
            f'{path}.target: got {shown(values["target"])}, expected "package.module:Name".'
        )
    return Model(name=values["target"], **values)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError
    return dict(value)


def _values(
    table: Mapping[str, Any],
    keys: Mapping[str, Key],
    path: str,
    owners: Callable[[str], list[str]] = lambda name: [],
) -> dict[str, Any]:
    """Return a value for every key: the table's, or the default."""
    mistakes = _Mistakes()
    misspelt = mistakes.unknown(table, keys, "key", f"{path}.", owners)
    values: dict[str, Any] = {}
    for name, key in keys.items():
        with mistakes.noting():
            if name in table:
                values[name] = _value(table[name], key, f"{path}.{name}")
            elif key.default is not REQUIRED:
                values[name] = key.default
            elif name not in misspelt:
                raise _missing(name, key, path)
    mistakes.check()
    return values


def _value(value: Any, key: Key, path: str) -> Any:
    choice = key.mark(Choice)
    if choice is not None:
        return _named(value, choice, path)
    try:
        return key.expect.check(value)
    except ValueError:
        raise _mismatch(value, key, path) from None


def _mismatch(value: Any, key: Key, path: str) -> ConfigError:
    hint = ""
    if isinstance(value, str) and key.expect.what.startswith("one of "):
        choices = [part.strip('"') for part in key.expect.what[7:].split(", ")]
        hint = f' Did you mean "{nearest(value, choices)}"?'
    return ConfigError(
        f"{path}: got {shown(value)} ({_kind(value)}), expected {key.expect.what}.{hint}"
    )


def _missing(name: str, key: Key, path: str) -> ConfigError:
    own = ', or target = "package.module:Name" for a class of your own' if path == "model" else ""
    return ConfigError(
        f"{path}.{name} is missing: expected {key.expect.what}. "
        f"Write `{name} = ...` in section [{path}]{own}."
    )


def _filled(key: Key) -> Key:
    """Put the registry in whose name a key is marked with."""
    row = key.mark(Row)
    if row is None:
        return key
    if row.registry in CHOICES:
        return replace(key, annotation=Annotated[Named, CHOICES[row.registry]])
    return replace(key, expect=string(NAMES[row.registry]))


def _named(value: Any, choice: Choice, path: str) -> Named:
    """Parse `"name"` or `{name = "name", option = value}`."""
    rows = ", ".join(f'"{row}"' for row in choice.registry)
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{path}: got {shown(value)} ({_kind(value)}), expected one of {rows}, "
            "or a table with such a name and its options."
        )
    if "name" not in value:
        raise ConfigError(f"{path}.name is missing: expected one of {rows}.")
    name = value["name"]
    if not isinstance(name, str) or name not in choice.registry:
        hint = f' Did you mean "{nearest(name, choice.registry)}"?' if isinstance(name, str) else ""
        raise ConfigError(
            f"{path}: got {shown(name)} ({_kind(name)}), expected one of {rows}.{hint}"
        )
    table = {key: item for key, item in value.items() if key != "name"}
    named = Named(name, _values(table, choice.keys(name), path))
    if choice.validate is not None:
        try:
            choice.validate(named)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from None
    return named


def _unknown(prefix: str, name: str, known: list[str], kind: str, owners: list[str]) -> str:
    path = f"{prefix}{name}"[:120]
    if not known:
        return f"{path}: unknown {kind} {shown(name)}; none is known here."
    listed = ", ".join(known)
    if len(listed) > 500:
        listed = listed[:496] + " ..."
    if owners:
        have = ", ".join(f'"{row}"' for row in owners)
        return f"{path}: unknown {kind} here; it is one of {have}. Known here: {listed}."
    return (
        f"{path}: unknown {kind}. The nearest known {kind} is {prefix}{nearest(name, known)}. "
        f"Known here: {listed}."
    )


def _check_experiment(experiment: Experiment) -> None:
    name = experiment.name
    if len(name) > 100 or not set(name) <= _PLAIN_NAME or name[0] in ".-":
        raise ConfigError(
            f"experiment.name: got {shown(name)}, expected at most 100 letters, digits, "
            "'.', '_' or '-' (it names the folder runs/<experiment.name>)."
        )


def _check_data(data: Data) -> None:
    if data.name is None and data.path is None:
        raise ConfigError(
            "data.name is missing: expected a built-in data set such as mnist-5k or a "
            'hub data set ("owner/name"); or give data.path, a local folder.'
        )
    if data.pixel_range is not None and data.pixel_range[0] >= data.pixel_range[1]:
        raise ConfigError(
            f"data.pixel_range: got {list(data.pixel_range)}, expected the value of black, then "
            "the larger one of white."
        )


def _kind(value: Any) -> str:
    """Return how TOML calls the type of a value."""
    if isinstance(value, bool):
        return "boolean"
    kinds = {int: "integer", float: "float", str: "string", list: "list", dict: "table"}
    return kinds.get(type(value), type(value).__name__)


def resolved(config: Config) -> dict[str, Any]:
    """Return the config as plain TOML tables with every default written out."""
    return {
        section.name: _plain(getattr(config, section.name))
        for section in dataclasses.fields(config)
        if getattr(config, section.name) != ()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Named):
        return {"name": value.name, **_plain(value.options)} if value.options else value.name
    if isinstance(value, Model) and value.target is not None:
        kept = ("target", "framework", "layout", "options")
        return _plain({name: getattr(value, name) for name in kept})
    if isinstance(value, Optimizer) and value.given is not None:
        return {"name": GIVEN}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table = {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in ("options", "given") and getattr(value, field.name) is not None
        }
        return {**table, **_plain(getattr(value, "options", {}))}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
