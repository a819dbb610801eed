"""Put the model of a run of the recipe `small` into this package.

tgq run small --set catalog.source=PATH/TO/fashion --to runs/small
python packages/small/pack.py runs/small
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tgqformer.model.pretrained import pack

TO = Path(__file__).parent / "src" / "tgqformer_small" / "model"


def main(run: Path) -> None:
    """Pack the model of the first seed in the place of the one that is there."""
    fresh = TO.with_name("fresh")
    pack(run / "models" / "tgq-former" / "seed-0" / "model", fresh)
    shutil.rmtree(TO, ignore_errors=True)
    fresh.rename(TO)
    print(f"{sum(path.stat().st_size for path in TO.iterdir()) / 1e6:.1f} MB in {TO}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
