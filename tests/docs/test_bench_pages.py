"""The benches of the pages, with two tiny models and two seeds; what `--only` names is looked up in the real one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from doc_runs import Terminal, walk_page
from doc_shop import Place, write_fashion
from paper_files import write_amazon_2018, write_hm

from tgqformer.catalog import Catalog
from tgqformer.experiments.bench.bench import Bench
from tgqformer.experiments.bench.grid import chosen, load_bench, shipped_benches


def with_seeds(seeds: int, tiny_model: Callable[[str], Path]) -> Terminal:
    """Make each bench one of two tiny models and so many seeds; it keeps its base and its data."""
    bert = f"hf:{tiny_model('bert')}"
    changes = {
        "set.encoders.vision": f"hf:{tiny_model('vit')}", "set.encoders.text": bert, "set.catalog.items": 80,
        "set.pairs.train": 0.5, "set.pairs.val": 0.1, "set.pairs.test": 0.4, "set.noise.share": 0,
        "set.alignment": "{steps: 2, batch: 8}", "set.evaluation": "{views: [mixed], probes: [], validation_pool: 10}",
        "set.training": "{steps: 2, visual_steps: 1, visual_batch: 8, batch: 8, group: 2, warmup: 1}",
        "languages": f"{{minilm: {{name: '{bert}', max_tokens: 16}}}}",
        "models": "[{name: TGQ-Former, connector: tgq, options: {dim: 16, heads: 2}},"
        " {name: text-aware Q-Former, connector: text-qformer, options: {dim: 16, heads: 2}}]",
        "tuning": "{lr: [0.001]}", "headline": "{model: TGQ-Former, language: minilm}",
        "grids": "[{title: 'headline, every connector, token budget', languages: [minilm], probes: 0,"
        f" seeds: {seeds}}}]",
    }  # fmt: skip
    few = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    one = {"--jobs": "--jobs", "2": "1"}  # tests/experiments/bench/test_workers.py has cells side by side
    return Terminal(more={"bench": few, "bench --list": [], "bench --cell": []}, instead=one)


ABSENT = ("/q-former/", "/mlp/")
"""What `--only` names on a page, and the small bench does not have."""


class Real:
    """Looks at a command's bench as it is shipped before the small one is run."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.seen = terminal, set[str]()

    def __call__(self, words: list[str]) -> None:
        if words[:2] == ["tgq", "bench"] and words[2] in shipped_benches():
            given = {option: [b for a, b in pairwise(words) if a == option] for option in ("--set", "--only")}
            real = load_bench(words[2], tuple(given["--set"]))
            for only in given["--only"]:
                assert chosen(real, [only]), f"no cell of {words[2]} has {only!r}"
            self.seen.add(words[2])
        absent = {at for at, word in enumerate(words) if word in ABSENT}
        self.terminal([word for at, word in enumerate(words) if not absent & {at, at + 1}])


@pytest.mark.parametrize(
    ("name", "words"),
    [("small", "It has {} cells, and {} trainings to find"), ("fashion", "its {} cells and {} learning rates")],
)
def test_the_page_counts_the_cells_of_a_bench(name: str, words: str) -> None:
    bench = load_bench(name)
    made = Bench(bench, Path("nowhere"))
    tuned = {made._tuned((cell.model, cell.setting.language, cell.setting.noise)) for cell in made.cells}
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    assert words.format(len(made.cells), sum(len(made._rates(key)) for key in tuned)) in page


@pytest.fixture
def here(place: Place) -> Path:
    folder = place()
    write_fashion(folder.parent / "shared/data/fashion", 80)
    write_fashion(folder / "PATH/TO/fashion", 80)
    return folder


@pytest.mark.slow
def test_the_page_of_the_bench(here: Path, place: Place, tiny_model: Callable[[str], Path]) -> None:
    place("shop.csv", "photos", "clicks.csv", "pairs.parquet")
    run = Real(with_seeds(1, tiny_model))
    walk_page("docs/bench.md", run)
    assert run.seen == {"fashion", "studio", "small"} and Path("again/metrics.json").is_file()
    assert Path("runs/bench-shop/table.md").is_file() and Path("runs/bench-pairs/table.md").is_file()


@pytest.mark.slow
def test_the_page_of_results(here: Path, tiny_model: Callable[[str], Path]) -> None:
    run = Real(with_seeds(2, tiny_model))
    spaces = walk_page("docs/results.md", run)
    walk_page("docs/log.md", run)
    assert run.seen == {"published", "headline", "studio", "explore"}
    assert 0 < len(Catalog.open("catalogs/explore")) < 80
    told = spaces["differences"](Path("runs/headline"), "TGQ-Former", "text-aware Q-Former")
    assert set(told) == {"mixed"} and "mean=" in told["mixed"]


def test_the_bench_of_the_paper(here: Path, tiny_model: Callable[[str], Path]) -> None:
    write_amazon_2018(here / "data/amazon-2018")
    write_hm(here / "data/hm")
    run = Real(with_seeds(1, tiny_model))
    walk_page("docs/paper.md", run, "Which command gives which row")
    assert run.seen == {"paper"} and Path("runs/paper-hm/table.md").is_file()
