"""Kill a node of a Ray cluster at random moments of `embed` and `neighbours`, and compare with the single machine.

    python benchmarks/faults_nodes.py --kills 20

Three simulated nodes of one core each (`ray.cluster_utils.Cluster`); a node is removed without a word, and
the others do the rest. After each kill: is every file the same, byte by byte, nothing missing, nothing twice?
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tgqformer.catalog.catalog import Catalog
from tgqformer.cluster.ray import Cluster, fill_on
from tgqformer.cluster.work import Maker, Work
from tgqformer.model.embedder import ItemEmbedder
from tgqformer.model.hub import locate_model
from tgqformer.store.embed import Embedding, EmbedOptions, embed_catalog
from tgqformer.store.embeddings import Embeddings, fingerprint_of
from tgqformer.store.neighbours import NeighboursWork, make_neighbours

Stage = Callable[[Path, Callable[[Callable[[Path], Work]], Maker | None]], object]
"""Makes a folder; what it is given makes a `Maker` of what opens the stage on another machine."""
OPTIONS = EmbedOptions(batch_size=8, workers=1)


def embedding(model: Path, catalog: Path, partition_size: int) -> Stage:
    """Return the stage that embeds a catalogue."""
    opened = partial(Embedding.open, model=model, device="cpu", catalog=catalog, options=OPTIONS)
    loaded, items = ItemEmbedder.load(model), Catalog.open(catalog)
    return lambda to, maker: embed_catalog(
        loaded, items, to, make=maker(opened), partition_size=partition_size, shown=False, **vars(OPTIONS)
    )


def nearest(folder: Path, items: int, partition_size: int) -> Stage:
    """Return the stage that compares made-up items of 64 dimensions."""
    ids, luck = [f"i{number}" for number in range(items)], np.random.default_rng(0)
    shape = {"dim": 64, "count": items, "partition_size": partition_size}
    made = Embeddings.create(folder, model_version="m", ids_fingerprint=fingerprint_of(ids), **shape)
    for number in made.missing():
        start, stop = made.bounds(number)
        made.write(number, ids[start:stop], luck.normal(size=(stop - start, 64)).astype(np.float32))
    opened = partial(NeighboursWork.open, embeddings=folder)
    return lambda to, maker: make_neighbours(made, to, 20, maker(opened) or _here)


def _here(work: Work) -> int:
    return sum(work.fill(work.missing()))


@contextmanager
def nodes(count: int) -> Iterator[tuple[Any, list[Any]]]:
    """Start a cluster of so many nodes, besides the head, which does no tasks."""
    import ray
    from ray.cluster_utils import Cluster as Simulated

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    simulated = _patiently(lambda: Simulated(initialize_head=True, head_node_args=head))
    try:
        ray.init(address=simulated.address, logging_level="ERROR", log_to_driver=False)
        yield simulated, [_node(simulated) for _ in range(count)]
    finally:
        ray.shutdown()
        simulated.shutdown()


def _node(simulated: Any) -> Any:
    return _patiently(lambda: simulated.add_node(num_cpus=1, object_store_memory=80_000_000))


def _patiently(start: Callable[[], Any]) -> Any:
    """Start something of Ray, which gives it 30 seconds: a busy machine may need longer, so try again."""
    for _ in range(99):
        try:
            return start()
        except Exception as error:  # noqa: BLE001 - Ray raises it bare
            print(f"not started in time, again: {error}", file=sys.stderr)
    return start()


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, but for hidden ones."""
    files = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def kill_once(stage: Stage, to: Path, simulated: Any, there: list[Any], after: float, which: int) -> float | None:
    """Make a stage, and kill a node so many seconds after the first partition is there; one comes in its place later.

    Returns:
        The share of the partitions that were missing when the node was killed; None if the work was done before.
    """
    missing, ended = list[float](), threading.Event()

    def kill(work: Work) -> None:
        count = len(work.missing())
        while len(work.missing()) == count and not ended.wait(0.02):
            pass
        ended.wait(after)
        missing.append(len(work.missing()) / count)
        simulated.remove_node(there.pop(which), allow_graceful=False)

    def made(opened: Callable[[Path], Work]) -> Maker:
        def make(work: Work) -> int:
            killer = threading.Thread(target=kill, args=(work,))
            killer.start()
            done = fill_on(Cluster("auto"), opened, work, shown=False)
            ended.set()
            killer.join()
            return done

        return make

    stage(to, made)
    there.append(_node(simulated))
    return missing[0] or None


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each stage")
    parser.add_argument("--stage", choices=("embed", "neighbours"), help="this one alone")
    parser.add_argument("--items", type=int, default=192, help="of the catalogue that is embedded")
    parser.add_argument("--pool", type=int, default=20_000, help="items that are compared")
    given = parser.parse_args()
    from tgqformer.synthetic.studio import draw_studio

    luck = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name, nodes(3) as (simulated, there):
        folder = Path(name)
        draw_studio(folder / "catalog", items=given.items, shown=False)
        stages = {
            "embed": embedding(locate_model("small"), folder / "catalog", max(1, given.items // 24)),
            "neighbours": nearest(folder / "embeddings", given.pool, given.pool // 40),
        }
        for stage_name, stage in stages.items():
            if given.stage not in (None, stage_name):
                continue
            stage(folder / stage_name, lambda opened: None)
            whole, equal, at, rounds, span = content(folder / stage_name), 0, list[float](), 0, 4.0
            started = time.perf_counter()
            while len(at) < given.kills:
                to = folder / f"{stage_name}-{rounds}"
                left = kill_once(stage, to, simulated, there, luck.uniform(0, span), int(luck.integers(3)))
                rounds += 1
                same = content(to) == whole
                if left is None:  # it was done before: no kill of the work, but it must be the same all the same
                    assert same
                    span *= 0.8
                    continue
                at.append(left)
                equal += same
            print(
                f"{stage_name}: {given.kills} kills with {min(at):.0%} to {max(at):.0%} of the partitions missing, "
                f"{equal} results byte-equal to the single machine's; {time.perf_counter() - started:.0f} s"
            )


if __name__ == "__main__":
    main()
