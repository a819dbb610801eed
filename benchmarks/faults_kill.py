"""Kill every job at random moments (SIGKILL), start it again, and hold what it makes against a job left alone.

    python benchmarks/faults_kill.py --kills 60

Jobs: `catalog import` (with pictures), `embed`, `neighbours`, `index`, `sync`, `pairs mine`, the filling of a run's
cache, its training, a whole `tgq run`, and `collab train`. A job is killed up to three times, then left to its end.
What it made must be the same: items, vectors, rows, pairs and weights to the last bit. Nothing of somebody else's is
gone, and no unfinished file is left. Jobs are forked from a process that has imported PyTorch, so kills hit their work.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from hashlib import blake2b
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import numpy as np
import torch  # imported once, before jobs are forked
import transformers  # noqa: F401

import tgqformer.experiments.run
import tgqformer.training.loop  # noqa: F401
from faults_store import prepare

FORK = multiprocessing.get_context("fork")
IN_A_ROW, LIVES = 3, 30
RECIPE = """
name: kill
catalog: {source: studio, items: 70}
pairs: {shoppers: studio, train: 0.6, val: 0.1, test: 0.3}
alignment: {steps: 6, batch: 16}
training: {steps: 24, visual_steps: 4, visual_batch: 8, batch: 8, group: 4, warmup: 1, validate_every: 6,
           checkpoint_every: 2}
evaluation: {views: [mixed, clean], examples: 2, validation_pool: 20}
neighbours: 5
serve: train
models:
  - {name: Q-Former, connector: qformer, preset: given, share: 1}
"""
FOREIGN = ("made.txt", ".made.notes", "made/mine.txt", "made/.hidden/mine.txt")
"""Files of somebody else, beside what a job makes and, where a job goes on in one folder, in it."""
WHOLE = frozenset({"run", "training", "cache", "collab"})  # jobs that go on in one folder
JOBS = ("import", "embed", "neighbours", "index", "sync", "pairs", "cache", "training", "run", "collab")


def job_of(name: str, at: Path, shop: Path) -> Callable[[], Any]:
    """Return what a job does to make `at / "made"` from what `prepared` left in a folder."""
    to, catalog, vectors = str(at / "made"), str(shop / "monday"), str(shop / "vectors")
    commands = {
        "import": ["catalog", "import", str(shop / "shop.csv"), "--to", to, "--overwrite", "--pictures",
                   str(shop / "photos"), "--pack", "--name", "made"],
        "embed": ["embed", catalog, "--model", str(shop / "model"), "--to", to],
        "neighbours": ["neighbours", vectors, "--to", to, "-k", "5"],
        "index": ["index", vectors, "--catalog", catalog, "--to", to],
        "sync": ["sync", catalog, "--store", to, "--model", str(shop / "model"), "--new-version", "--batch-rows", "8"],
        "pairs": ["pairs", "mine", str(shop / "log.csv"), "--to", f"{to}.parquet", "--min-support", "1",
                  "--overwrite"],
        "run": ["run", str(shop / "kill.yaml"), "--to", to],
        "collab": ["collab", "train", "shop-lightgcn", "--log", str(shop / "log.csv"), "--to", to,
                   "--set", "training.epochs=12", "--set", "training.batch=256"],
    }  # fmt: skip
    if name in commands:
        return lambda: tgq(commands[name])
    until = "features" if name == "cache" else "train"
    return lambda: tgq([*commands["run"], "--until", until])


def tgq(words: list[str]) -> None:
    """Run the command; its words go nowhere."""
    from typer.testing import CliRunner

    from tgqformer.cli import app

    said = CliRunner().invoke(app, words)
    if said.exit_code:
        raise said.exception or RuntimeError(said.output)


def begin(work: Callable[[], Any]) -> tuple[BaseProcess, Connection]:
    """Do work in a forked process; what it returns, or its error in words, comes through the pipe."""
    ours, theirs = FORK.Pipe(duplex=False)

    def child() -> None:
        try:
            theirs.send((True, work()))
        except BaseException:  # noqa: BLE001 - told to the parent
            theirs.send((False, traceback.format_exc()))

    process = FORK.Process(target=child)
    process.start()
    theirs.close()
    return process, ours


def done(work: Callable[[], Any]) -> Any:
    """Do work in a forked process to its end; return what it returned."""
    process, pipe = begin(work)
    well, found = pipe.recv()
    process.join()
    pipe.close()
    if not well:
        raise SystemExit(found)
    return found


def killed(work: Callable[[], Any], after: float) -> float | None:
    """Kill work after so many seconds; return how many it took if it ended before. Raise SystemExit where it failed."""
    start = time.monotonic()
    process, pipe = begin(work)
    took = time.monotonic() - start if pipe.poll(after) else None
    if took is None:
        process.kill()
    else:
        well, found = pipe.recv()
        if not well:
            raise SystemExit(found)
    process.join()
    pipe.close()
    return took


def prepared(shop: Path, items: int) -> None:
    """Draw a shop; write its export, photos, log and recipe, a model and embeddings."""
    from tgqformer.catalog.catalog import Catalog

    prepare(shop, items)
    catalog = Catalog.open(shop / "monday")
    rows, log, luck = ["id,title,picture"], ["user,item,time"], random.Random(0)
    (shop / "photos").mkdir()
    for item in catalog.items():
        (shop / "photos" / f"{item.id}.png").write_bytes(item.pictures[0].data or b"")
        rows.append(f"{item.id},{item.title},{item.id}.png")
    (shop / "shop.csv").write_text("\n".join(rows) + "\n")
    log += [f"u{n // 8},{luck.choice(catalog.ids()[n // 8 % 5 :: 5])},{1_700_000_000 + 60 * n}" for n in range(4000)]
    (shop / "log.csv").write_text("\n".join(log) + "\n")
    (shop / "kill.yaml").write_text(RECIPE)
    tgq(["embed", str(shop / "monday"), "--model", str(shop / "model"), "--to", str(shop / "vectors")])


def made(name: str, at: Path) -> dict[str, str]:
    """Return digests of what a job made, by what it is; raise where it cannot be read, or something is left over."""
    left = [str(one) for one in at.rglob(".*") if one.name.endswith((".tmp", ".old"))]
    if left:
        raise RuntimeError(f"left over: {left}")
    found, folder = dict[str, str](), at / "made"
    if name == "import":
        from tgqformer.catalog.catalog import Catalog

        found["items"] = digest(repr(list(Catalog.open(folder).items())).encode())
    if name in ("index", "sync", "run"):
        from tgqformer.store import open_store

        table = open_store(folder / "store" if name == "run" else folder).table()
        rows = table.get(sorted(one for one, _ in table.contents()))
        found["rows"] = digest(repr([(row, row.vector.tobytes()) for row in rows]).encode())
    for file in sorted(at.rglob("*")):
        if re.match(r"part-\d{20}", file.name):  # of a cache: a row is the same in whichever part it stands
            found[str(file.parent.relative_to(at))] = ""
        elif file.is_file() and "store" not in file.parts and name not in ("index", "sync"):
            place = re.sub(r"[0-9a-f]{8,}", "#", str(file.relative_to(at)))
            exact = file.suffix in (".safetensors", ".arrow") or place == "made.parquet"
            found[place] = digest(file.read_bytes()) if exact else ""
    if name == "cache":
        found |= {str(one.relative_to(at)): rows_of(one) for one in {file.parent for file in at.rglob("part-*")}}
    return {place: what for place, what in found.items() if place not in FOREIGN}


def rows_of(folder: Path) -> str:
    """Return a digest of all rows of a cache, whatever parts they stand in."""
    from safetensors.numpy import load_file

    rows = dict[bytes, list[bytes]]()
    for part in map(load_file, folder.glob("part-*.safetensors")):
        keys = [key.tobytes() for key in part.pop("keys")]
        spans = np.cumsum(part["lengths"])[:-1] if "lengths" in part else None  # of texts: so many tokens each
        for name in sorted(part):
            ragged = name == "tokens" and spans is not None
            split = np.split(part[name], spans) if ragged else part[name]
            for key, values in zip(keys, split, strict=True):
                rows.setdefault(key, []).append(values.tobytes())
    return digest(b"".join(key + b"".join(rows[key]) for key in sorted(rows)))


def digest(data: bytes) -> str:
    """Return a digest of bytes."""
    return blake2b(data, digest_size=16).hexdigest()


def leave_foreign(name: str, at: Path) -> list[Path]:
    """Put files of somebody else there; return them."""
    files = [at / place for place in FOREIGN if "/" not in place or (name in WHOLE and (at / "made").is_dir())]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("not yours")
    return files


def kill_job(name: str, folder: Path, kills: int, luck: random.Random) -> tuple[int, int]:
    """Kill a job so often; return how often it was killed and how often what it made was compared."""
    shop, begun = folder / "shop", folder / "begun"
    if name == "training":  # all before the training is made once
        (begun).mkdir(exist_ok=True)
        done(lambda: job_of("cache", begun, shop)())
    count = compared = 0
    wanted, pace = {}, 0.0
    while count < kills or not compared:
        at = folder / name
        shutil.copytree(begun, at) if name == "training" else at.mkdir()
        work = job_of(name, at, shop)
        if not wanted:
            start = time.monotonic()
            done(work)
            pace = time.monotonic() - start
            wanted = done(lambda at=at: made(name, at))
            shutil.rmtree(at)
            continue
        foreign, lives = leave_foreign(name, at), 0
        for _ in range(LIVES):
            if lives == IN_A_ROW:
                break
            if (took := killed(work, luck.uniform(0.02, 1.0) * pace)) is not None:
                pace = pace if lives else took  # a machine that is less busy now would end before most kills
                break
            lives += 1
            foreign = [*{*foreign, *leave_foreign(name, at)}]
        done(work)
        found = done(lambda at=at: made(name, at))
        if found != wanted:
            wrong = sorted(place for place in found | wanted if found.get(place) != wanted.get(place))
            raise SystemExit(f"{name}, killed {lives} times: not as without a kill: {wrong[:10]}")
        gone = [str(file) for file in foreign if not file.exists() or file.read_text() != "not yours"]
        if gone:
            raise SystemExit(f"{name}: files of somebody else are gone: {gone}")
        count, compared = count + lives, compared + 1
        shutil.rmtree(at)
    return count, compared


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=60, help="of each job, at least")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        done(lambda: prepared(Path(folder) / "shop", 60))
        for name in asked.jobs:
            start = time.monotonic()
            count, compared = kill_job(name, Path(folder), asked.kills, random.Random(f"{name} {asked.seed}"))
            line = {"job": name, "kills": count, "ends compared": compared, "seconds": round(time.monotonic() - start)}
            print(json.dumps(line), flush=True)
    print("the same as without a kill each time; nothing left over, nothing of others gone: ok")


if __name__ == "__main__":
    sys.exit(main())
