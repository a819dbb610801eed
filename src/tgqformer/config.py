"""The one way in which settings are declared, read from YAML and checked.

A section of settings is a class with the decorator `settings`: a frozen dataclass that pydantic checks whenever one is
made, from YAML or in code. Recipes, grids, studies, presets, a connector's options and the service's settings are all
read by `load` or `parse`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_args, get_origin, get_type_hints

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import ErrorDetails

from tgqformer.errors import TgqError, nearest
from tgqformer.files import write_text

S = TypeVar("S")

Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NaturalFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("give at least one, each once")
    return values


Seeds = Annotated[tuple[Natural, ...], AfterValidator(_each_once)]
"""At least one seed, each once."""


class _Typed(str):
    """A value typed at the command line: a path in it is relative to the working folder, not to the file."""


def located(value: Any, info: ValidationInfo) -> Any:
    """Make a relative path absolute: relative to the file that it stands in."""
    if not isinstance(value, str) or "://" in value:
        return value
    if isinstance(value, _Typed):
        return str((Path.cwd() / value).resolve())
    base = (info.context or {}).get("base")
    return value if base is None else str((base / value).resolve())


def is_deep(info: ValidationInfo) -> bool:
    """Say whether a section checks what takes the import of torch, see `parse`; one that is made in code does not."""
    return bool((info.context or {}).get("deep", False))


def _located_model(value: Any, info: ValidationInfo) -> Any:
    """Make the folder of `hf:FOLDER` or `joint:hf:FOLDER` absolute; a hub id, and any other name, stays as it is."""
    head, mark, name = value.rpartition("hf:") if isinstance(value, str) else ("", "", "")
    if not mark:
        return value
    found = located(type(value)(name), info)
    return f"{head}hf:{found}" if Path(found).exists() else str(value)


FilePath = Annotated[str, BeforeValidator(located)]
"""A file or folder; in a file of settings, relative to that file."""
ModelName = Annotated[str, BeforeValidator(_located_model)]
"""The name of an encoder or language model; the folder in `hf:FOLDER` is relative to the file of settings."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[S]) -> type[S]:
    """Make a class a section of settings: frozen, checked when it is made, unknown keys refused.

    Checks of one value stand in its type (`Annotated[int, Field(gt=0)]`), checks across values in `__post_init__`,
    which raises ValueError. A field `from_` is the key `from`, which Python does not take as a name.
    """
    config = ConfigDict(extra="forbid", alias_generator=key_of, populate_by_name=True)
    return cast(type[S], pydantic_dataclass(frozen=True, config=config)(cls))


def key_of(field: str) -> str:
    """Return the key that a field of settings is read by."""
    return field.removesuffix("_")


def options_of(made: Callable[..., Any]) -> type[Any]:
    """Return the section of settings that the keyword-only parameters of a function or class are.

    The signature is the schema, so that nothing is declared twice.
    """
    function = made.__init__ if inspect.isclass(made) else made
    hints = get_type_hints(function, include_extras=True)
    fields = []
    for name, parameter in inspect.signature(made).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            given = () if parameter.default is parameter.empty else (dataclasses.field(default=parameter.default),)
            fields.append((name, hints[name], *given))
    return settings(dataclasses.make_dataclass(f"{made.__name__}Options", fields, frozen=True))


def load(
    schema: type[S],
    source: str | Path,
    shipped: Mapping[str, Path],
    kind: str,
    changes: tuple[str, ...] = (),
    *,
    deep: bool = True,
) -> S:
    """Load settings from a YAML file, or from one that is shipped, by its name.

    Args:
        schema: the class of the whole. source: path or name. shipped: name → path. kind: what it is, for errors.
        changes: `section.key=value`, read as YAML, set on top. deep: see `parse`.

    Raises:
        TgqError: for a file that is not there, a key that is not known (with the nearest one), or a wrong value.
    """
    path, data = read_yaml(source, shipped, kind, changes)
    base = Path.cwd() if path in shipped.values() else path.parent
    return parse(schema, data, str(path), base=base, deep=deep)


def read_yaml(
    source: str | Path, shipped: Mapping[str, Path], kind: str, changes: tuple[str, ...] = ()
) -> tuple[Path, dict[str, Any]]:
    """Read a YAML file of sections as plain data; return its path too. Arguments and errors as in `load`."""
    path = Path(source)
    if not path.is_file():
        if str(source) not in shipped:
            hint = nearest(str(source), shipped, "those that are shipped are")
            raise TgqError(f"there is no {kind} file {str(source)!r}, and no shipped one of this name; {hint}")
        path = shipped[str(source)]
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TgqError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise TgqError(f"{path} must hold sections of keys; found {type(data).__name__}")
    for change in changes:
        place, equals, value = change.partition("=")
        if not equals:
            raise TgqError(f"--set {change!r} must be section.key=value, for example training.steps=200")
        try:
            found = yaml.safe_load(value)
            set_key(data, place, _Typed(found) if isinstance(found, str) else found)
        except yaml.YAMLError as error:
            raise TgqError(f"--set {change!r}: the value is not YAML: {error}") from error
    return path, data


def set_key(data: dict[str, Any], place: str, value: Any) -> None:
    """Set a key of plain data by its place, `section.key`; sections that are missing are made."""
    *sections, key = place.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise TgqError(f"{place} cannot be set: {section!r} is not a section")
    data[key] = value


def parse(schema: type[S], data: Any, where: str, *, base: Path | None = None, deep: bool = True) -> S:
    """Check plain data and make the settings.

    Args:
        schema: a class made by `settings`. data: plain data. where: name of the file or section, for errors.
        base: the folder that paths in `data` are relative to; None leaves them as they are.
        deep: whether sections ask the classes that they name for their options, which takes the import of torch.

    Raises:
        TgqError: for a key that is not known (with the nearest one) or a wrong value, with its place.
    """
    if not isinstance(data, Mapping):
        raise TgqError(f"{where}: must be a section of keys, found {data!r:.60}")
    try:
        return TypeAdapter(schema).validate_python(data, context={"base": base, "deep": deep})
    except TgqError as error:
        raise TgqError(f"{where}: {error}") from error
    except ValidationError as error:
        raise TgqError(f"{where}: {_told(error.errors()[0], schema)}") from error


def plain(value: Any) -> Any:
    """Return settings as plain data, every default written out."""
    return TypeAdapter(type(value)).dump_python(value, mode="json", by_alias=True)


def write(value: Any, path: Path) -> None:
    """Write settings as YAML, every default written out."""
    write_text(path, yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True))


def shipped_in(package: str, folder: str) -> dict[str, Path]:
    """Return the YAML files that come with a package of ours, by name."""
    return {path.stem: path for path in sorted(Path(str(files(package) / folder)).glob("*.yaml"))}


def slug(name: str) -> str:
    """Return the name of the folder in which something of this name is kept: small letters, digits, `-` and `.`."""
    kept = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in name.lower())
    return kept.strip("-.") or "x"


def unique_slugs(what: str, names: list[str]) -> None:
    """Raise ValueError if there is no name, or two names are kept in one folder."""
    if not names:
        raise ValueError(f"{what}: give at least one")
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(slug(name), name)
        if other is not name:
            raise ValueError(f"{what}: {other!r} and {name!r} would be kept in one folder, {slug(name)!r}; rename one")


def _told(error: ErrorDetails, schema: Any) -> str:
    """Say what is wrong, where, and which word is nearest."""
    loc = [part for part in error["loc"] if not (isinstance(part, str) and "[" in part)]
    place, found = ".".join(map(str, loc)), error.get("input")
    if error["type"] == "unexpected_keyword_argument":
        known = list(map(key_of, get_type_hints(_schema_at(schema, loc[:-1]))))
        return f"{place!r} is not a key here; {nearest(str(loc[-1]), known, 'known are')}"
    if error["type"] in ("missing_argument", "missing"):
        return f"{place} is missing"
    if error["type"] == "invalid_key":
        return f"{place!r} is not a key here: keys are words"
    at = f"{place}: " if place else ""
    if error["type"] == "literal_error":
        return f"{at}{found!r} is not known; {nearest(str(found), _words(_schema_at(schema, loc)))}"
    if error["type"] == "value_error":
        return f"{at}{error['ctx']['error']}"
    if error["type"] == "dataclass_type":
        return f"{at}must be a section of keys, found {found!r:.60}"
    return f"{at}{error['msg'][0].lower()}{error['msg'][1:]}, found {found!r:.80}"


def _schema_at(schema: Any, loc: list[Any]) -> Any:
    """Return the type that stands at a place of a schema."""
    for part in loc:
        schema = _bare(schema)
        if dataclasses.is_dataclass(schema):
            hints = get_type_hints(schema, include_extras=True)
            schema = {key_of(name): hint for name, hint in hints.items()}[part]
        else:  # of a tuple or a dict: what it holds
            schema = next(one for one in reversed(get_args(schema)) if one is not Ellipsis)
    return _bare(schema)


def _bare(schema: Any) -> Any:
    """Return a type without `Annotated` and without `| None`."""
    while True:
        if get_origin(schema) is Annotated:
            schema = get_args(schema)[0]
        elif type(None) in get_args(schema):
            schema = next(one for one in get_args(schema) if one is not type(None))
        else:
            return schema


def _words(schema: Any) -> list[str]:
    """Return the words of a Literal, or of the Literals in a union."""
    args = get_args(schema)
    return [str(arg) for arg in args] if get_origin(schema) is Literal else [w for arg in args for w in _words(arg)]
