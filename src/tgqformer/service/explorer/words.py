"""The words of a catalogue, and which of them a person means by one that is spelt otherwise."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tgqformer.types import Array, Ints

LONGEST, SHORTEST = 24, 4
"""Longer words are not compared; shorter ones are too easily another word."""
MANY = 5
"""So many words are taken for one."""


class Vocabulary:
    """Words in memory as numbers, so that one can be compared with all at once: 50,000 take about 20 ms."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = np.array(sorted({word for word in words if SHORTEST <= len(word) <= LONGEST}), f"<U{LONGEST}")
        self._letters = self.words.view(np.uint32).reshape(len(self.words), LONGEST)
        self._lengths = np.char.str_len(self.words).astype(np.int64)

    def near(self, word: str) -> list[str]:
        """Return the words that are nearest to one: one letter off, two where it has eight letters and more."""
        reach = 0 if len(word) < SHORTEST else 1 if len(word) < 2 * SHORTEST else 2
        if not reach or len(word) > LONGEST or not len(self.words):
            return []
        away = distances(word, self._letters, self._lengths)
        least = int(away.min())
        found = np.flatnonzero(away == least) if least <= reach else np.empty(0, np.int64)
        return [str(self.words[place]) for place in found[:MANY].tolist()]


def distances(word: str, letters: Array, lengths: Ints) -> Ints:
    """Return how many letters each of V words is off: added, left out, another, or swapped with the next.

    letters: code points [V, L], 0 behind the end. lengths: [V]. Damerau (1964), "optimal string alignment".
    """
    count, longest = letters.shape
    before = above = np.broadcast_to(np.arange(longest + 1), (count, longest + 1)).copy()
    codes = [ord(letter) for letter in word]
    for row, code in enumerate(codes, 1):
        here = np.empty_like(above)
        here[:, 0] = row
        for at in range(1, longest + 1):
            same = letters[:, at - 1] == code
            here[:, at] = np.minimum(np.minimum(above[:, at], here[:, at - 1]) + 1, above[:, at - 1] + ~same)
            if row > 1 and at > 1:
                swapped = (letters[:, at - 2] == code) & (letters[:, at - 1] == codes[row - 2])
                here[:, at] = np.where(swapped, np.minimum(here[:, at], before[:, at - 2] + 1), here[:, at])
        before, above = above, here
    return np.asarray(above[np.arange(count), lengths])
