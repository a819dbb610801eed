"""The report: what it says, that it is one file, that nothing in it can break out."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browsing import WAIT, assert_accessible, launched, needs_browser
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from tgqformer.evaluation.attention import gate_statistics, noise_shares
from tgqformer.evaluation.cost import Cost
from tgqformer.evaluation.masks import pool_mask
from tgqformer.evaluation.metrics import METRICS, Queries, evaluate
from tgqformer.evaluation.pictures import outline, overlay, thumbnail
from tgqformer.evaluation.report import AttentionExample, NeighbourExample, Report, ReportCard, amount, write_report
from tgqformer.evaluation.results import Result, ViewScores, summarize
from tgqformer.evaluation.tables import percent
from tgqformer.evaluation.words import falls
from tgqformer.topk.vectors import nearest_items

HOSTILE = '<script src="http://evil.example/x.js">alert(1)</script>" onerror="x'
COLORS = ("crimson", "seagreen", "royalblue", "goldenrod", "slateblue", "sienna")
KINDS = ("shirt", "mug", "bag", "shoe")
ITEMS = 240


def drawn(i: int) -> Image.Image:
    """Draw a plain product of one of four kinds and six colours."""
    picture = Image.new("RGB", (60, 80), "white")
    draw, color = ImageDraw.Draw(picture), COLORS[i % 6]
    if (kind := KINDS[i // 6 % 4]) == "shirt":
        left = [(6, 26), (20, 14), (40, 14), (54, 26), (47, 36)]
        draw.polygon([*left, (42, 31), (42, 68), (18, 68), (18, 31), (13, 36)], color)
    elif kind == "mug":
        draw.rectangle([14, 26, 42, 62], color)
        draw.arc([36, 32, 54, 54], -90, 90, color, 4)
    elif kind == "bag":
        draw.rounded_rectangle([10, 34, 50, 68], 6, color)
        draw.arc([20, 18, 40, 52], 180, 360, color, 4)
    else:
        draw.polygon([(6, 54), (22, 34), (32, 44), (54, 50), (56, 60), (6, 60)], color)
    return picture


def with_banner(picture: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """Lay a promo banner on a picture; give it with its exact mask."""
    noised, mask = picture.copy(), np.zeros((80, 60), dtype=bool)
    draw = ImageDraw.Draw(noised)
    draw.rectangle([0, 60, 59, 79], "red")
    draw.text((8, 64), "SALE -50", "yellow")
    mask[60:] = True
    return noised, mask


def vectors(strength: float, noise: float, seed: int) -> np.ndarray:
    """Give item vectors that hold kind and colour as strongly as told, under noise."""
    rng = np.random.default_rng(seed)
    kinds, colors = np.random.default_rng(7).normal(size=(2, 6, 16))
    items = np.arange(ITEMS)
    made = kinds[items // 6 % 4] + strength * colors[items % 6] + noise * rng.normal(size=(ITEMS, 16))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def made_report() -> Report:
    """Run made-up vectors and drawn pictures through the true functions, from metrics to gates."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, 120, 300)
    queries = Queries.from_pairs(left, (left + 24 * rng.integers(1, 5, 300)) % 120)
    settings = {"TGQ-Former": (1.2, 1.1), "Q-Former": (1.0, 1.1), "MLP": (0.8, 1.1), "text only": (0.0, 0.8)}
    size = len(queries)
    facts = {
        "kind": rng.choice(["", "poster", "clutter", "distractor"], size),
        "category": [KINDS[i // 6 % 4] for i in queries.query],
        "agreement": rng.random(size),
    }
    facts["severity"] = np.where(facts["kind"] == "", 0, rng.integers(1, 6, size))
    results = []
    for name, (strength, noise) in settings.items():
        for seed in range(3):
            views = {
                view: ViewScores.of(
                    evaluate(vectors(strength, noise * more, seed), queries),
                    [f"p{i}" for i in range(ITEMS)],
                    facts if view == "mixed" else None,
                )
                for view, more in (("mixed", 1.0), ("clean", 0.8), ("noised", 1.3))
            }
            losses = 4 * np.exp(-np.arange(50) / 15) + 2 - strength + rng.random(50) / 9
            log = [{"step": 10.0 * i, "loss": loss, "lr": 1e-3} for i, loss in enumerate(losses.tolist())]
            log += [{"step": s, "val_hit@10": strength * (1 - np.exp(-s / 200)) / 2} for s in range(0, 500, 100)]
            results.append(Result(name, seed, views, log))
    return Report(
        title="Studio demo",
        settings={"items": f"{ITEMS}", "queries": size, "seeds": 3, "vision encoder": "EfficientNet-Lite0"},
        results=results,
        examples=made_examples(queries, settings),
        attention=(looks := made_attention())[0],
        shares={"TGQ-Former": looks[1]},
        gates={"TGQ-Former": gate_statistics({s: np.tanh(rng.normal(size=(40, 16)) / 3) for s in looks[1]})},
        cost=[
            Cost("TGQ-Former", 27_400_000, 1_210_000, {"vision": 770e6, "connector": 50e6, "language": 1.2e9}, 61.3),
            Cost("text only", 22_700_000, 640_000, {"language": 1.1e9}),
        ],
        commands=["make demo", "tgq report --run demo"],
        notes=["The catalogue is drawn by the project."],
    )


def made_examples(queries: Queries, settings: dict[str, tuple[float, float]]) -> list[NeighbourExample]:
    examples = []
    for row in (3, 40):
        query, positives = int(queries.query[row]), set(queries.positives.row(row).tolist())
        rows = {}
        for name, (strength, noise) in settings.items():
            found, scores = nearest_items(vectors(strength, noise, 0), [query], 8)
            pairs = zip(found[0].tolist(), scores[0].tolist(), strict=True)
            rows[name] = [made_card(i, hit=i in positives, score=score) for i, score in pairs]
        examples.append(NeighbourExample(made_card(query), rows))
    hostile = ReportCard("p<0>", HOSTILE, None, True, 0.5)
    return [*examples, NeighbourExample(hostile, {"MLP": [hostile]})]


def made_card(i: int, *, hit: bool = False, score: float | None = None) -> ReportCard:
    title = f"{COLORS[i % 6].capitalize()} {KINDS[i // 6 % 4]} no. {i}"
    return ReportCard(f"p{i}", title, with_banner(drawn(i))[0] if i % 3 == 0 else drawn(i), hit, score)


def made_attention() -> tuple[list[AttentionExample], dict]:
    examples, streams = [], {"anchored": slice(0, 1), "exploratory": slice(1, 2)}
    rows, columns = np.mgrid[0:7, 0:7]
    anchored = np.exp(-((rows - 2) ** 2 + (columns - 3) ** 2) / 4)
    maps = np.stack([anchored, np.exp(-((rows - 5) ** 2) / 6)])
    maps /= maps.sum(axis=(1, 2), keepdims=True)
    noised, mask = zip(*(with_banner(drawn(i)) for i in (0, 9)), strict=True)
    pooled = np.stack([pool_mask(m, (7, 7)) for m in mask])
    shares = noise_shares(np.tile(maps.reshape(1, 1, 2, 49), (2, 1, 1, 1)), pooled, streams)
    for i, title in enumerate(("Crimson shirt", HOSTILE)):
        inside = {name: float(share.per_item[i]) for name, share in shares.items()}
        examples.append(AttentionExample(title, noised[i], dict(zip(streams, maps, strict=True)), mask[i], inside))
    return examples, shares


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._style = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._style else " ".join(data.split()) + " "

    def ids(self) -> list[str]:
        return [a["id"] for tag, a in self.tags if tag == "section" and a["id"]]


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


@pytest.fixture(scope="module")
def html(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(tmp_path_factory.mktemp("report") / "report.html", report)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_it_is_one_file_that_loads_nothing(html: str, page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset"):
                assert value is not None
                assert value.startswith(("data:image/jpeg;base64,", "#"))
    assert "@import" not in html
    assert "<?xml" not in html
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_hostile_titles_are_text(page: Page) -> None:
    assert HOSTILE.split('"')[0] in page.text
    assert any((attributes.get("alt") or "").startswith(HOSTILE) for _, attributes in page.tags)
    assert any((attributes.get("title") or "") == f"{HOSTILE} (p<0>)" for _, attributes in page.tags)


def test_sections_stand_in_order(page: Page) -> None:
    expected = ["results", "neighbours", "attention", "robustness", "training", "gates", "cost", "how"]
    assert page.ids() == expected


def test_the_figures_are_those_of_the_results(page: Page, report: Report) -> None:
    rows = summarize(report.results)
    for row in rows:
        if row.metric in ("hit@10", "hit@100", "mrr", "ndcg@10"):
            assert percent(row.interval) in page.text.replace("  ", " ")
    assert "3 seeds" in page.text
    assert "mixed: TGQ-Former has a match among the first ten" in page.text
    assert "TGQ-Former over Q-Former" in page.text
    assert "TGQ-Former against every other model" in page.text


def test_every_picture_and_plot_has_a_text(page: Page) -> None:
    pictures = [a for tag, a in page.tags if tag == "img"]
    svgs = [a for tag, a in page.tags if tag == "svg"]
    assert len(pictures) == 2 * (1 + 4 * 8) + 2 * 3
    assert all(a["alt"] for a in pictures)
    # Three views, loss and validation, three kinds of noise, one view with agreement.
    assert len(svgs) == 3 + 2 + 3 + 1
    assert all(a["aria-label"] and a["role"] == "img" for a in svgs)


def test_ids_are_unique_and_plots_follow_the_page(html: str, page: Page) -> None:
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert "var(--s0)" in html
    assert "#0101" not in html
    assert "#0102" not in html


def test_matches_are_marked_by_frame_and_word(page: Page, report: Report) -> None:
    hits = sum(card.hit for example in report.examples for cards in example.rows.values() for card in cards)
    framed = [a for tag, a in page.tags if tag == "figure" and "hit" in (a.get("class") or "").split()]
    assert hits > 5
    assert len(framed) == hits + 1  # the hostile query is marked as one itself
    assert page.text.count(" match ") >= hits


def test_attention_cost_gates_and_commands_are_told(page: Page, report: Report) -> None:
    share = report.attention[0].in_noise["anchored"]
    assert f"{100 * share:.1f} %" in page.text
    assert "25.0 %" in page.text
    assert "27.4 M" in page.text
    assert "770 M" in page.text
    assert "spread over items" in page.text
    assert "make demo" in page.text
    assert "torch 2" in page.text


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "deep" / "empty.html", Report("Nothing yet")).read_text())
    assert page.ids() == ["how"]
    assert "Nothing yet" in page.text


def test_a_model_that_is_level_with_another_has_no_lead(report: Report, tmp_path: Path) -> None:
    first = report.results[0]
    twins = Report("Twins", results=[first, replace(first, model="its twin")])
    text = Page(write_report(tmp_path / "twins.html", twins).read_text()).text
    assert "; so has " in text and "may be chance" not in text


def test_one_model_alone_is_compared_with_nobody(tmp_path: Path) -> None:
    queries = Queries.from_pairs(np.arange(20), np.arange(20) + 24)
    view = ViewScores.of(evaluate(vectors(1, 0.5, 0), queries), [f"p{i}" for i in range(ITEMS)])
    report = Report("One", results=[Result("MLP", 0, {"mixed": view})])
    page = Page(write_report(tmp_path / "one.html", report).read_text())
    assert page.ids() == ["results", "how"]
    assert "best to next" not in page.text
    assert "over queries" in page.text


def test_a_metric_or_view_that_one_model_lacks_is_an_empty_cell(tmp_path: Path) -> None:
    query = [str(i) for i in range(30)]
    full = {metric: np.linspace(0, 1, 30) for metric in METRICS}
    results = [
        Result("MLP", 0, {"mixed": ViewScores(query, full), "clean": ViewScores(query, full)}),
        Result("Q-Former", 0, {"mixed": ViewScores(query, {"mrr": np.ones(30)})}),
    ]
    page = Page(write_report(tmp_path / "partial.html", Report("Partial", results=results)).read_text())
    assert "Q-Former" in page.text


def test_amounts() -> None:
    assert [amount(n) for n in (35.43e9, 1.2e6, 724e9, 999, 0, None)] == ["35.4 G", "1.20 M", "724 G", "999", "0", ""]


def test_outline_is_the_rim_of_the_mask() -> None:
    mask = np.zeros((12, 12), dtype=bool)
    mask[2:10, 2:10] = True
    rim = outline(mask)
    assert rim.sum() == 64 - 16
    assert not rim[4:8, 4:8].any()
    assert outline(np.ones((8, 8), dtype=bool)).sum() == 64 - 16


def test_overlay_is_bright_where_attention_is() -> None:
    heat = np.zeros((7, 7))
    heat[0, 0] = 1
    pixels = np.asarray(overlay(Image.new("RGB", (60, 80), "grey"), heat, None)).astype(int)
    assert pixels.shape == (300, 225, 3)
    assert pixels[:20, :20].sum() > 2 * pixels[-20:, -20:].sum()


def test_transparent_pictures_become_white_thumbnails() -> None:
    uri = thumbnail(Image.new("RGBA", (400, 200), (0, 0, 0, 0)))
    assert uri.startswith("data:image/jpeg;base64,")


@needs_browser
def test_axe_finds_nothing(report: Report, tmp_path: Path) -> None:
    assert_accessible(write_report(tmp_path / "report.html", report))


def test_the_examples_are_headed_by_their_rule_and_columns_say_what_they_mean(report: Report, tmp_path: Path) -> None:
    told = replace(report, rule="Chosen by <chance>.")
    text = write_report(tmp_path / "report.html", told).read_text()
    assert text.index("Chosen by &lt;chance&gt;.") < text.index('class="example"')
    page = Page(text)
    named = {attributes["id"] for tag, attributes in page.tags if "popover" in attributes}
    asked = [attributes for tag, attributes in page.tags if "popovertarget" in attributes]
    assert len(asked) > 5 and {one["popovertarget"] for one in asked} <= named
    assert any("Hit rate" in (one["title"] or "") for one in asked)


@needs_browser
def test_the_meaning_of_a_column_is_one_key_away(report: Report, tmp_path: Path) -> None:
    with launched() as browser:
        page = browser.new_page()
        page.goto(write_report(tmp_path / "report.html", report).as_uri())
        head = page.locator("#results .term").first
        head.focus()
        page.keyboard.press("Enter")
        expect(page.locator("[popover]:popover-open")).to_contain_text("Hit rate", timeout=WAIT)
        page.keyboard.press("Escape")
        expect(page.locator("[popover]:popover-open")).to_have_count(0, timeout=WAIT)


def curve(*scores: float, kept: int | None = None) -> Result:
    rows = [{"step": 100.0 * at, "val_hit@10": score} for at, score in enumerate(scores, 1)]
    return Result("M", 3, {}, [*rows[:-1], rows[-1] | ({} if kept is None else {"kept_step": float(kept)})])


def test_a_validation_that_falls_is_explained() -> None:
    [line] = falls([curve(0.2, 0.4, 0.3, kept=200)])
    assert "M, seed 3: validation H@10 was best at step 200 (40.0 %) and fell to 30.0 % by step 300" in line
    assert "overfitting" in line and "The weights of step 200 were kept" in line
    assert falls([curve(0.2, 0.3, 0.4), curve(0.4, 0.39), curve(0.4), Result("M", 0, {})]) == []
