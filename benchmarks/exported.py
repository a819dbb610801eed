"""What an exported model costs an item, beside the model itself: processor time of one thread, in turns.

tgq export small --onnx --catalog demo/catalog --to small-onnx
tgq export small --onnx --int8 --catalog demo/catalog --to small-int8
python benchmarks/exported.py small-onnx small-int8 --catalog demo/catalog
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time

import numpy as np
import torch

from tgqformer import Catalog, ItemEmbedder, OnnxEmbedder
from tgqformer.store.embed import embed_prepared


def main() -> None:
    """Print a line for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path, nargs="+")
    parser.add_argument("--model", default="small", help="what they were made of: a folder, a hub id, or small")
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    catalog, model = Catalog.open(asked.catalog), ItemEmbedder.from_pretrained(asked.model)
    items, encoders = list(catalog.items(0, asked.items)), model.encoders
    assert encoders is not None
    pixels = [encoders.preprocess(item, catalog.root) for item in items]
    arrays = [None if one is None else one[0].numpy() for one in pixels]
    forms: dict[str, Callable[[], object]] = {
        "PyTorch, float32": partial(embed_prepared, model, items, pixels),
        "PyTorch, precision auto": partial(embed_prepared, model, items, pixels, "auto"),
    }
    for folder in asked.exported:
        forms[str(folder)] = partial(OnnxEmbedder(folder, threads=1).embed_prepared, items, arrays)
    spent: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(asked.rounds):
        for name, embed in forms.items():
            began = process_time()
            embed()
            spent[name].append(1000 * (process_time() - began) / len(items))
    first = float(np.median(spent["PyTorch, float32"][1:]))
    print("| form | ms an item | times PyTorch in float32 |\n|---|--:|--:|")
    for name, times in spent.items():
        middle = float(np.median(times[1:]))
        print(f"| {name} | {middle:.1f} | {middle / first:.2f} |")


if __name__ == "__main__":
    main()
