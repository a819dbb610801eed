"""From embeddings and a catalogue to a version of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.errors import TgqError
from tgqformer.files import read_json
from tgqformer.model.hub import name_of
from tgqformer.model.prompt import Prompt
from tgqformer.model.version import UNSAVED, check_cut, version_of
from tgqformer.objects import absolute, told
from tgqformer.progress import progress
from tgqformer.store import make_store
from tgqformer.store.base import Store, StoreRow
from tgqformer.store.content import prompt_of, row_of
from tgqformer.store.embeddings import Embeddings
from tgqformer.store.ledger import Dtype, VersionSpec


@dataclass(frozen=True)
class Build:
    """How a version is made from embeddings.

    label: a name for people. model: folder of the saved model; with it `tgq sync` knows what is unchanged.
    dtype: how vectors are kept. truncate_dim: keep the first so many dimensions.
    serve: serve it when it is whole. keep: how many versions stay, this one among them.
    """

    label: str = ""
    model: Path | None = None
    dtype: Dtype = "float32"
    truncate_dim: int | None = None
    serve: bool = True
    keep: int = 2


def build_store(
    embeddings: Embeddings,
    catalog: Catalog,
    to: Path | str,
    build: Build = Build(),
    *,
    show_progress_bar: bool = True,
) -> Store:
    """Write every item with its vector as a new version of the store at `to`, index it, and serve it.

    What was served before is served until the new version is whole; partitions stream, so memory does not grow with
    the catalogue.

    Raises: TgqError where the embeddings are not complete or were made from another catalogue, or by another model.
    """
    embeddings.require_complete()
    if len(catalog) != len(embeddings):
        raise other_catalog(embeddings, catalog)
    dim = build.truncate_dim or embeddings.dim
    if dim > embeddings.dim:
        raise TgqError(
            f"truncate_dim is {dim}, the embeddings in {told(embeddings.path)} have {embeddings.dim} dimensions"
        )
    made_by = embeddings.model_version
    if build.model is not None and (other := version_of(build.model)) != made_by != UNSAVED:
        raise TgqError(
            f"{told(embeddings.path)} was made by model {made_by}, and {build.model} is {other};"
            " name the model that embedded, or embed again with this one"
        )
    place = None if build.model is None else name_of(build.model), str(absolute(catalog.path))
    prompt = prompt_of(build.model) if build.model is not None else None
    if dim < embeddings.dim:
        _require_cuttable(embeddings, dim, build.model)
    spec = VersionSpec(made_by, dim, build.dtype, build.label, *place)
    store = make_store(to)
    with progress("index", len(embeddings), shown=show_progress_bar) as bar:

        def rows() -> Iterator[StoreRow]:
            for row in rows_of(embeddings, catalog, dim, prompt):
                yield row
                bar.advance()
            bar.note("building the index")

        version = store.create(spec, rows())
    if build.serve:
        store.serve(version.name)
        store.prune(build.keep)
    return store


def rows_of(
    embeddings: Embeddings, catalog: Catalog, dim: int | None = None, prompt: Prompt | None = None
) -> Iterator[StoreRow]:
    """Stream the items of a catalogue with the first `dim` dimensions of their vectors.

    Raises: TgqError where the two do not belong together.
    """
    for part in embeddings:
        items = catalog.items(part.start, part.start + len(part.ids), pictures=False)
        contents = part.contents or repeat(None, len(part.ids))
        for item_id, vector, item, seen in zip(part.ids, part.vectors, items, contents, strict=True):
            if item_id != item.id:
                raise other_catalog(embeddings, catalog)
            yield row_of(item, np.asarray(vector[:dim]), prompt, seen=seen)


def _require_cuttable(embeddings: Embeddings, dim: int, model: Path | None) -> None:
    cuttable = embeddings.manifest.cuttable
    if cuttable is None and model is not None:
        check_cut(read_json(model / "config.json").get("frozen"), dim, embeddings.dim)
    elif cuttable is None:
        raise TgqError(
            f"{told(embeddings.path)} does not say whether its vectors may be cut to {dim} of their {embeddings.dim}"
            " dimensions; give the model that embedded by --model, or run `tgq embed` anew with --dim"
        )
    elif not cuttable:
        raise TgqError(
            f"the first {dim} of the {embeddings.dim} dimensions in {told(embeddings.path)} do not stand for the whole:"
            " such vectors begin at what is not learned, or come from behaviour; leave the number of dimensions out,"
            " or train a model with training.matryoshka"
        )


def other_catalog(embeddings: Embeddings, catalog: Catalog) -> TgqError:
    """Make the error for embeddings that do not belong to a catalogue."""
    return TgqError(
        f"{told(embeddings.path)} ({len(embeddings)} vectors) was not made from {told(catalog.path)} ({len(catalog)}"
        " items), or the catalogue has changed since; run `tgq embed` again"
    )
