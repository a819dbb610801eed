"""Whether a text model has a place for every word of its tokenizer."""

from __future__ import annotations

from typing import Any

from tgqformer.errors import TgqError


def check_words(name: str, tokenizer: Any, places: int | None) -> None:
    """Refuse a tokenizer that gives numbers of words which the model has not.

    Special words that only stand in texts which spell them out may lie beyond: some decoders have one for pictures.

    Args:
        name: of the model, for the words. tokenizer: of Hugging Face. places: rows of the model's table of words; None
            where it has none.

    Raises:
        TgqError: with the first word that has no place.
    """
    if places is None or len(tokenizer) <= places:
        return
    used = {*tokenizer("")["input_ids"], tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    spelt = {at for at, word in tokenizer.added_tokens_decoder.items() if word.special} - used
    beyond = sorted((at, word) for word, at in tokenizer.get_vocab().items() if at >= places and at not in spelt)
    if beyond:
        raise TgqError(
            f"{name} knows {places:,} words, its tokenizer has {len(tokenizer):,}: there is no place for "
            f"{beyond[0][1]!r}; give a model with the tokenizer that it was trained with"
        )


def places_in(model: Any) -> int | None:
    """Return how many rows the table of words of a model has; None where it has no such table."""
    try:
        words = model.get_input_embeddings()
    except NotImplementedError:  # what transformers raises for a model that reads no words by a table
        return None
    return int(words.weight.shape[0])
