"""The pages of the reference, made from the code at each build of the site: Python API, commands, keys of settings.

Nothing here needs mkdocs; `hooks.py` hands the pages to it.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import notebook

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/tgqformer"
API = "reference/api"
PLAIN = (type(None), str, int, float, bool)


def pages() -> dict[str, str]:
    """Return every page that is made: its place below docs/ -> its text."""
    made = {**api_pages(), "reference/commands.md": commands_page(), **settings_pages()}
    return {**made, notebook.PAGE: notebook.page(notebook.read())}


# ---- Python API: a page a package, filled by mkdocstrings


def api_pages() -> dict[str, str]:
    """Return a page for each package, one for the modules beside them, and one that lists all public names."""
    made = {f"{API}/{package.name}.md": _package_page(package) for package in packages()}
    return {f"{API}/index.md": _index_page(), f"{API}/shared.md": _shared_page(), **made}


def packages() -> list[Path]:
    """Return the packages that are documented; the commands have a page of their own."""
    return [path.parent for path in sorted(SOURCE.glob("*/__init__.py")) if path.parent.name != "cli"]


def modules(folder: Path) -> list[Path]:
    """Return the modules of a package and of those within it."""
    return [path for path in sorted(folder.rglob("*.py")) if not path.name.startswith("__main__")]


def exports(init: Path) -> dict[str, str]:
    """Return the names in `__all__` of a package -> where each is defined, by its full name."""
    tree = ast.parse(init.read_text(encoding="utf-8"))
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}" for node in ast.walk(tree) for alias in _names(node)
    }
    named: list[str] = []
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            named += ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return {name: homes.get(name, f"{dotted(init)}.{name}") for name in named}


def _names(node: ast.AST) -> list[ast.alias]:
    return node.names if isinstance(node, ast.ImportFrom) else []


def dotted(path: Path) -> str:
    """Return the full name of a module."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def _index_page() -> str:
    lines = ["# Python API", "", "| name | is imported from |", "|---|---|"]
    for init in (SOURCE / "__init__.py", *(path for one in packages() for path in modules(one))):
        if init.name == "__init__.py":
            lines += [f"| [`{name}`][{home}] | `{dotted(init)}` |" for name, home in exports(init).items()]
    lines += ["", "Everything else that is public, package by package:", "", "| package | what it is |", "|---|---|"]
    lines += [f"| [`{dotted(one)}`]({one.name}.md) | {_summary(one / '__init__.py')} |" for one in packages()]
    return "\n".join([*lines, "| [shared modules](shared.md) | settings, files, errors, types |", ""])


def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _package_page(package: Path) -> str:
    parts = [f"# `{dotted(package)}`"]
    for path in modules(package):
        names = exports(path) if path.name == "__init__.py" else {}
        elsewhere = [f"[`{name}`][{home}]" for name, home in names.items() if home != f"{dotted(path)}.{name}"]
        parts.append(_module(path) + (f"\nFrom its modules: {', '.join(elsewhere)}.\n" if elsewhere else ""))
    return "\n\n".join(parts)


def _shared_page() -> str:
    own = [path for path in sorted(SOURCE.glob("*.py")) if not path.name.startswith("__main__")]
    return "\n\n".join(["# Shared modules", *map(_module, own)])


def _module(path: Path) -> str:
    """Return the directive that shows a module: what is defined in it, and nothing that it imports."""
    names = public_names(path)
    shown = f"\n    options:\n      members: {names or 'false'}"
    return f"::: {dotted(path)}{shown}\n"


def public_names(path: Path) -> list[str]:
    """Return the public names that a module defines."""
    found: dict[str, None] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = None
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            found |= {one.id: None for one in ast.walk(target) if isinstance(one, ast.Name)} if target else {}
    return [name for name in found if not name.startswith("_") or name == "__version__"]


# ---- commands


def commands_page() -> str:
    """Return the page of all commands, as the command line itself describes them."""
    import typer

    from tgqformer.cli import app

    parts = ["# Commands", "This page is made from the commands themselves. `tgq COMMAND --help` says the same.", ""]
    return "\n\n".join([*parts, *_commands(typer.main.get_command(app), ("tgq",))]) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    for name, one in (inner or {}).items():
        if not one.hidden:
            yield from _commands(one, (*path, name))
    if inner is None:
        yield _command(command, " ".join(path))


def _command(command: Any, name: str) -> str:
    given = [one for one in command.params if one.name != "help" and not one.hidden]
    arguments = [one for one in given if not one.opts[0].startswith("-")]
    options = [one for one in given if one.opts[0].startswith("-")]
    usage = " ".join([name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## `{name}`", f"```text\n{usage}\n```", _plain_help(command.help or "")]
    rows = [f"| `{_argument(one)}` | {cell(one.help or '')} | {_default(one)} |" for one in arguments]
    rows += [f"| {_option(one)} | {cell(one.help or '')} | {_default(one)} |" for one in options]
    return "\n\n".join(
        [*parts, *(["\n".join(["| option | meaning | default |", "|---|---|---|", *rows])] if rows else [])]
    )


def _plain_help(text: str) -> str:
    """Return the help as Markdown: its examples one beneath another in a block."""
    text = re.sub(r"\n\n(?=    )", "\n", "\n" + text.strip())
    return re.sub(
        r"((?:\n    [^\n]*)+)", lambda found: "\n\n```sh" + found[1].replace("\n    ", "\n") + "\n```\n", text
    ).strip()


def _argument(one: Any) -> str:
    word = one.metavar or one.name.upper()
    return (word if one.required else f"[{word}]") + ("…" if one.nargs == -1 else "")


def _option(one: Any) -> str:
    value = "" if getattr(one, "is_flag", False) else f" {one.metavar or one.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in (*one.opts, *one.secondary_opts))


def _default(one: Any) -> str:
    if one.required:
        return "must be given"
    if one.default is None or one.default is False or one.default in ((), []) or callable(one.default):
        return ""
    return f"`{one.default}`"


def cell(text: str) -> str:
    """Return a text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# ---- keys of settings


def settings_pages() -> dict[str, str]:
    """Return a page of keys for each kind of file that a person writes."""
    from tgqformer.collaborative.settings import OPTIONS, Preset
    from tgqformer.experiments.bench.grid import BenchRecipe
    from tgqformer.experiments.recipe import Recipe
    from tgqformer.experiments.study.settings import Study

    options = "".join(f"\n\n{_section(one, f'options of {name}')[0]}" for name, one in OPTIONS.items())
    return {
        "reference/recipe.md": keys_page(Recipe, "Keys of a recipe", "tgq run"),
        "reference/bench-file.md": keys_page(BenchRecipe, "Keys of a bench", "tgq bench"),
        "reference/study-file.md": keys_page(Study, "Keys of a study", "tgq collab study"),
        "reference/preset-file.md": keys_page(Preset, "Keys of a preset", "tgq collab train").rstrip() + options + "\n",
    }


def keys_page(schema: type[Any], title: str, command: str) -> str:
    """Return a page with every key of a class of settings and of the sections in it."""
    parts = [
        f"# {title}",
        f"For `{command}`. This page is made from the classes that read the file. A key that is not known is an error.",
    ]
    todo, seen = [(schema, "top level")], {schema}
    while todo:
        text, inner = _section(*todo.pop(0))
        parts.append(text)
        todo += [(one, place) for one, place in inner if one not in seen]
        seen |= {one for one, _ in inner}
    return "\n\n".join(parts) + "\n"


def _section(schema: type[Any], place: str) -> tuple[str, list[tuple[type[Any], str]]]:
    """Return the text of one section, and the sections in it."""
    meanings = described(schema)
    hints = get_type_hints(schema, include_extras=True)
    rows, inner = [], []
    for one in dataclasses.fields(schema):
        within = "" if place == "top level" else f"{place}."
        sections = [kind for kind in _leaves(hints[one.name]) if dataclasses.is_dataclass(kind)]
        many = get_origin(_bare(hints[one.name])) in (tuple, list)
        inner += [(kind, f"{within}{one.name}{'[]' if many else ''}") for kind in sections]
        meaning = meanings.get(one.name) or "; ".join(
            f"see *{title}*" for _, title in inner[len(inner) - len(sections) :]
        )
        key = one.name.removesuffix("_")
        rows.append(f"| `{key}` | {cell(shown_type(hints[one.name]))} | {_field_default(one)} | {cell(meaning)} |")
    table = ["| key | is | default | meaning |", "|---|---|---|---|", *rows]
    lead = prose(schema)
    return "\n\n".join([f"## {place}", *([lead] if lead else []), "\n".join(table)]), inner


def _bare(hint: Any) -> Any:
    return _bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _leaves(hint: Any) -> Iterator[Any]:
    """Return the classes that a type is made of."""
    inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    if inner and get_origin(hint) is not Literal:
        for one in inner:
            yield from _leaves(one)
    else:
        yield hint


def shown_type(hint: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return shown_type(inner[0]) + _bounds(inner[1:])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (Union, UnionType):
        return " or ".join(shown_type(one) for one in inner if one is not type(None))
    if origin in (tuple, list):
        many = re.sub("^(section|whole number|number|text)", r"\1s", shown_type(inner[0]))
        return f"list of {many}"
    if origin is dict:
        return "keys and values"
    if dataclasses.is_dataclass(hint):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}.get(
        hint, "any value"
    )


def _bounds(marks: tuple[Any, ...]) -> str:
    """Return what a number is held to, in words."""
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    found = [mark for one in marks for mark in getattr(one, "metadata", [one])]
    told = [f"{word} {getattr(mark, key):g}" for mark in found for key, word in words.items() if hasattr(mark, key)]
    return f", {', '.join(told)}" if told else ""


def _field_default(one: dataclasses.Field[Any]) -> str:
    value = one.default
    if value is dataclasses.MISSING and one.default_factory is not dataclasses.MISSING:
        value = one.default_factory()
    value = getattr(value, "default", value) if type(value).__name__ == "FieldInfo" else value
    if value is dataclasses.MISSING:
        return "must be given"
    if value is None:
        return "not set"
    if dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        return "`{}`" if not value else ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`".replace("\n", "\\n").replace("|", "\\|")


# ---- docstrings


def described(schema: type[Any]) -> dict[str, str]:
    """Return what the docstring of a class says of each of its fields, and of those that it inherits."""
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__):
        if dataclasses.is_dataclass(one):
            names = {field.name for field in dataclasses.fields(one)}
            found |= dict(
                pair for keys, text in entries(one.__doc__ or "", names) for pair in ((key, text) for key in keys)
            )
    return found


def prose(schema: type[Any]) -> str:
    """Return the part of a class's docstring that comes before its fields."""
    text = cleaned(schema.__doc__ or "")
    first = next(
        (place for place, _, _ in _marks(text, {field.name for field in dataclasses.fields(schema)})), len(text)
    )
    lead = re.sub(r"(^|\n)[^\n.]*:\s*$", r"\1", text[:first])
    return lead.strip()


def cleaned(text: str) -> str:
    """Return a docstring without its indentation."""
    import inspect

    return inspect.cleandoc(text)


def entries(text: str, names: Collection[str]) -> Iterator[tuple[list[str], str]]:
    """Return (names, what is said of them) for each `name, name: what` of a docstring; several may stand in a line."""
    text = cleaned(text)
    marks = list(_marks(text, names))
    ends = [start for start, _, _ in marks[1:]] + [len(text)]
    for (_, start, keys), end in zip(marks, ends, strict=False):
        said = re.split(r"\n\s*\n", text[start:end])[0]
        yield keys, " ".join(said.split())


def _marks(text: str, names: Collection[str]) -> Iterator[tuple[int, int, list[str]]]:
    """Return where `name, name: ` begins and ends: at the start of a line, or after a full stop."""
    for found in re.finditer(r"(?:(?<=[.;)] )|(?<=\n)|(?:^)) *(\w+(?:, \w+)*): +", text):
        keys = found[1].split(", ")
        if set(keys) <= set(names):
            yield found.start(), found.end(), keys


def one_row_each(text: str, names: Collection[str]) -> str:
    """Return a docstring with one line for each name within `Args:`; shapes such as [Q][P] are no links."""
    before, mark, block = text.replace("][", "]\u200b[").partition("Args:\n")
    args, gap, after = block.partition("\n\n")

    def alone(found: re.Match[str]) -> str:
        return f"\n    {found[1]}: " if set(found[1].split(", ")) <= set(names) else found[0]

    rows = []
    for row in re.split(r"\n(?=    \S)", re.sub(r"(?<=[.;)])\s+(\w+(?:, \w+)*): ", alone, args)):
        keys, colon, said = row.strip().partition(": ")
        rows += [f"    {key}: {said}" for key in keys.split(", ")] if colon else [row]
    return before + mark + "\n".join(rows) + gap + after
