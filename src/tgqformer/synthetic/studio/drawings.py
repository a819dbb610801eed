"""Draws the products of the studio as `drawings.txt` describes them, a line a shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tgqformer.synthetic.studio.palette import shade
from tgqformer.synthetic.studio.sketch import Sketch, oval, rounded

FILE = Path(__file__).with_name("drawings.txt")
_PATHS: dict[str, Callable[..., str]] = {"oval": oval, "rounded": rounded}
_TINT = re.compile(r"([a-z]+)([+-][\d.]+)")


def draw(sketch: Sketch, kind: str, variant: str) -> None:
    """Draw a variant of a kind on an empty board."""
    start = 0
    for line in drawings()[kind, variant]:
        if line == "begin":
            start = len(sketch)
        elif line == "mirror":
            sketch.mirrored(start)
        else:
            _draw_shape(sketch, line)


@cache
def drawings() -> dict[tuple[str, str], list[str]]:
    """Return the lines of every drawing, by kind and variant."""
    found: dict[tuple[str, str], list[str]] = {}
    text = re.sub(r"^#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for block in text.strip().split("\n\n"):
        head, *lines = block.splitlines()
        kind, variant = head.partition(":")[0].split()
        found[kind, variant] = lines
    return found


def _draw_shape(sketch: Sketch, line: str) -> None:
    command, _, path = line.partition(" | ")
    words = command.split()
    named = dict(word.split("=") for word in words if "=" in word)
    d, opacity = _path(path), float(named.get("opacity", 1.0))
    match [word for word in words if "=" not in word]:
        case ["part", form, *rest]:
            colours = [word for word in rest if word != "plain"]
            sketch.part(
                d, _colour(sketch, colours), form=form, plain="plain" in rest, edge=_number(named.get("edge", "1.6"))
            )
        case ["tube", width, *rest]:
            sketch.tube(d, _number(width), _colour(sketch, rest))
        case ["line", width, *rest]:
            dash = named.get("dash", "").replace(",", " ")
            sketch.line(d, _colour(sketch, rest), _number(width), dash=dash, opacity=opacity)
        case ["seam"]:
            sketch.seam(d)
        case ["glow", share, *rest]:
            sketch.glow(d, float(share), _colour(sketch, rest) or "#ffffff")
        case ["logo", x, y, size, *rest]:
            sketch.logo(_number(x), _number(y), _number(size), _colour(sketch, rest))
        case _:
            raise ValueError(f"{FILE.name}: {line!r} draws no shape")


def _path(text: str) -> str:
    shape, *numbers = text.split() or [""]
    return _PATHS[shape](*map(_number, numbers)) if shape in _PATHS else text


def _colour(sketch: Sketch, words: list[str]) -> str | None:
    """Return the colour that is named, if one is; a name may be followed by how much lighter or darker it is."""
    if not words or words[0].startswith("#"):
        return words[0] if words else None
    tint = _TINT.fullmatch(words[0])
    color = sketch.colours[tint[1] if tint else words[0]]
    return shade(color, float(tint[2])) if tint else color


def _number(word: str) -> float:
    """Return a number as it is written: whole ones stay whole in the SVG."""
    return float(word) if "." in word else int(word)
