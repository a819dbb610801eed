"""Colours as text: what a table of them reads best as."""

from __future__ import annotations

RGB = tuple[int, int, int]


def rgb(words: str) -> tuple[RGB, ...]:
    """Return the colours of a text `rrggbb rrggbb …`, each as red, green and blue from 0 to 255."""
    return tuple((int(word[:2], 16), int(word[2:4], 16), int(word[4:], 16)) for word in words.split())
