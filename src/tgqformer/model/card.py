"""The model card: what a saved model is, how it is used, and, where it was measured, how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tgqformer.model.version import CARD

if TYPE_CHECKING:
    from tgqformer.model.embedder import ItemEmbedder

HEAD = """\
---
library_name: tgqformer
pipeline_tag: feature-extraction
tags: [tgqformer, sentence-transformers, item-to-item, similar-items, multimodal]
---
"""
USE = """\
## Use
```python
from tgqformer import Item, ItemEmbedder

model = ItemEmbedder.from_pretrained("FOLDER-OR-HUB-ID")
vectors = model.encode([Item(title="Red cotton shirt", brand="Acme", picture="shirt.jpg")])
```

`tgq embed CATALOG --model FOLDER-OR-HUB-ID --to embeddings` embeds a whole catalogue.
Loading runs no code from this folder.
"""
UNMEASURED = """\
## Figures
None: this model was saved without an evaluation. `tgq run` writes a card with figures.
"""


def card_of(model: ItemEmbedder, title: str = "An item embedder", measured: str = UNMEASURED) -> str:
    """Write the card of a model with encoders; `measured` holds the sections on data, figures and limits."""
    assert model.encoders is not None
    prompt = model.encoders.prompt
    attributes = "all" if prompt.attributes is None else ", ".join(prompt.attributes) or "none"
    rows = {
        "connector": model.recipe["connector"],
        "vision encoder (frozen)": model.encoders.vision.name,
        "text encoder (frozen)": model.encoders.text.name,
        "language model": "none" if model.language is None else f"{type(model.language).__name__}, merged adapters",
        "embedding": f"{model.dim} dimensions, unit length, compared by cosine",
        "first dimensions alone": _cuts(model),
        "learned part of the cosine": f"{100 * model.share:.0f} %; the rest is that of the frozen encoders",
        "reads": f"{', '.join(prompt.fields)}; attributes: {attributes}; pictures: {prompt.pictures}",
    }
    table = "\n".join(["| part | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    what = 'Turns a shop\'s items (picture, title, brand, category, attributes) into vectors for "similar items".'
    return f"{HEAD}\n# {title}\n{what}\n\n{table}\n\n{USE}\n{measured}"


def _cuts(model: ItemEmbedder) -> str:
    """Say whether the first dimensions of a vector may stand for all of it."""
    if model.frozen is not None:
        return "no: the first are those of what it does not learn; `truncate_dim` is refused"
    if model.cuts:
        return f"yes, trained for {', '.join(map(str, model.cuts))} (`training.matryoshka`)"
    return "not trained for it (`training.matryoshka`): what is cut loses more than it would"


def read_card(folder: Path) -> str:
    """Read the card in a model's folder; empty if there is none."""
    path = folder / CARD
    return path.read_text(encoding="utf-8") if path.is_file() else ""
