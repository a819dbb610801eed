"""Events of answers: ids that say what was shown, a journal that keeps them, and what they say of sales."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from browsing import assert_accessible, needs_browser
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shop import Running, Shop, eventually, serving
from typer.testing import CliRunner

from tgqformer.cli import app
from tgqformer.errors import TgqError
from tgqformer.evaluation.intervals import of_lift, of_ratio
from tgqformer.service.answers import Answers
from tgqformer.service.events import Event, Journal, event_of, read_events, read_rules
from tgqformer.service.sales import PlaceSales, Sales, sales_of, write_sales_page
from tgqformer.store.rules import PLAIN, Rules


@given(
    items=st.lists(st.text(min_size=1, max_size=9), max_size=60, unique=True),
    query=st.text(min_size=1, max_size=20),
    diversity=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=50, deadline=None)
def test_an_id_says_what_was_shown(
    tmp_path_factory: pytest.TempPathFactory, items: list[str], query: str, diversity: float
) -> None:
    folder, rules = tmp_path_factory.mktemp("state"), Rules(diversity=diversity)
    answers = Answers(folder)
    name = answers.id_of("5a55f03acbcd7573", rules, query, items)
    shown = Answers(folder).read(name)  # after a restart
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert (shown.version, shown.query, shown.rules) == ("5a55f03acbcd7573", query, answers.code_of(rules))
    assert [shown.position(item) for item in items] == list(range(1, len(items) + 1))
    assert json.loads(answers.rules_of(shown.rules)) == ({"diversity": 0.3} if diversity else {})
    assert answers.id_of("5a55f03acbcd7573", rules, query, items) == name


def test_what_was_not_answered_is_refused(tmp_path: Path) -> None:
    answers, other = Answers(tmp_path / "a"), Answers(tmp_path / "b")
    name = answers.id_of("v", PLAIN, "q", ["x", "y"])
    for wrong in (other.id_of("v", PLAIN, "q", ["x"]), name[:-2], "A" + name[1:], "", "?", "é", name + "AAAA"):
        with pytest.raises(TgqError, match=r"no id of an answer|did not give this answer"):
            answers.read(wrong)
    shown = answers.read(name)
    for kind, item, words in (("click", "z", "did not hold"), ("buy", None, "send `item`")):
        with pytest.raises(TgqError, match=words):
            event_of(shown, kind, item, None)
    assert (tmp_path / "a" / "answers.key").stat().st_mode & 0o077 == 0


def test_an_event_is_kept_when_it_is_acknowledged(tmp_path: Path) -> None:
    shown = Answers(tmp_path).read(Answers(tmp_path).id_of("v", PLAIN, "q", ["x", "y"]))
    journal = Journal(tmp_path)
    events = [("one", event_of(shown, "view", None, "ann")), (None, event_of(shown, "click", "y", "ann"))]
    assert journal.add(events, {shown.rules: "{}"}) == 2
    assert journal.add(events, {shown.rules: "{}"}) == 1, "the first has an id, and counts once"
    # not closed: as after a kill
    kept = list(read_events(tmp_path))
    assert [(one.event, one.item, one.position, one.shown) for one in kept] == [
        ("view", None, None, shown.marks), ("click", "y", 2, shown.marks), ("click", "y", 2, shown.marks),
    ]  # fmt: skip
    assert len({one.visitor for one in kept}) == 1 and "ann" not in str(kept) and read_rules(tmp_path)
    journal.close()
    with pytest.raises(TgqError, match="holds no events"):
        list(read_events(tmp_path / "none"))


def test_sales_by_hand() -> None:
    def event(version: str, kind: str, visitor: str, position: int | None = None) -> Event:
        item = None if position is None else f"i{position}"
        return Event(0.0, kind, version, "r", "q", visitor, item, position, (11, 12, 13))

    events = [event("a", "view", who) for who in ("ann", "ann", "bob", "cat")] + [event("b", "view", "dan")]
    events += [event("a", "click", "ann", 1), event("a", "click", "bob", 3), event("a", "buy", "bob", 3)]
    events += [event("b", "view", "eve", 2), event("b", "click", "eve", 2)]
    one, other = sales_of(events, {"r": "{}"}, {"a": 12, "b": 12})
    assert (one.version, one.views, one.units, one.coverage, one.lift) == ("a", 4, 3, 0.25, None)
    assert (one.ctr.mean, one.buys.mean, one.carts.mean, one.rules) == (0.5, 0.25, 0.0, "{}")
    assert [(at.place, at.views, at.clicks) for at in one.places] == [(1, 4, 1), (2, 4, 0), (3, 4, 1)]
    assert (other.views, other.ctr.mean) == (1, 1.0) and other.lift is not None and other.lift.mean == 1.0
    assert [(at.place, at.views, at.clicks) for at in other.places] == [(1, 1, 0), (2, 2, 1), (3, 1, 0)]
    # linearised by hand: clicks - 0.5 views are 0, 0.5 and -0.5
    assert one.ctr.high - one.ctr.mean == pytest.approx(4.303 * np.sqrt(0.5 * 3 / 2) / 4, rel=1e-3)


def shoppers(rng: np.random.Generator, count: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Clicks and views of visitors who differ in how much they look and how gladly they click."""
    views = rng.geometric(0.3, count)
    likes = rng.beta(4, 4 / rate - 4, count)
    return rng.binomial(views, likes), views


@pytest.mark.slow
def test_a_known_difference_is_found_and_covered() -> None:
    rng, covered, ratios, found = np.random.default_rng(0), 0, 0, 0
    for _ in range(1000):
        one, other = shoppers(rng, 12_000, 0.11), shoppers(rng, 12_000, 0.10)
        lift, ratio = of_lift(one, other), of_ratio(*other)
        covered += lift.low <= 0.10 <= lift.high
        ratios += ratio.low <= 0.10 <= ratio.high
        found += lift.low > 0
    assert 930 <= covered <= 970 and 930 <= ratios <= 970  # 950 +- 3 standard errors
    assert found >= 950, "a difference of 10 % is found"


def test_intervals_of_too_little_say_so() -> None:
    assert np.isnan(of_ratio([], []).mean) and np.isnan(of_ratio([1], [2]).low)
    assert np.isnan(of_lift(([0, 0], [1, 1]), ([1, 1], [2, 2])).low)
    assert of_lift(([1, 1], [1, 1]), ([0, 0], [1, 1])).mean != of_lift(([1, 1], [1, 1]), ([1, 1], [1, 1])).mean


def tgq(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "240"})
    if result.exception is not None:
        raise result.exception
    return result.output


def sent(running: Running, event: Any) -> tuple[int, Any]:
    status, _, body = running.client()("POST", "/events", json.dumps(event), {"content-type": "application/json"})
    return status, body


def test_a_share_of_the_answers_comes_from_another_version(shop: Shop) -> None:
    other = shop.create(1, serve=False)
    served, versions = shop.model(0).version, {shop.model(0).version, shop.model(1).version}
    with serving(shop) as running:
        ask = running.client()

        def of(who: str) -> str:
            return str(ask.get(f"/items/sku-4/similar?k=4&visitor={who}")["model_version"])

        who = [f"visitor-{n}" for n in range(400)]
        assert {of(one) for one in who[:20]} == {served}
        assert "v1 gives 70% of the answers" in tgq("store", "share", shop.folder / "store", f"{other.name}=0.3")
        eventually(lambda: {of(one) for one in who[:50]} == versions)
        first = [of(one) for one in who]
        assert 0.2 < np.mean([one != served for one in first]) < 0.4 and [of(one) for one in who] == first
        by_item = {n: ask.get(f"/items/sku-{n}/similar?k=4")["model_version"] for n in range(24)}
        assert {n: ask.get(f"/items/sku-{n}/similar?k=4&metadata=true")["model_version"] for n in range(24)} == by_item
        assert set(by_item.values()) == versions

        in_test = next(one for one, version in zip(who, first, strict=True) if version != served)
        listed = ask.get(f"/items/sku-4/similar?k=4&visitor={in_test}")
        about = {"answer": listed["answer"], "visitor": in_test, "event": "view"}
        assert sent(running, about) == (200, {"kept": 1})
        status, _ = ask("DELETE", "/items/" + listed["results"][0]["id"])[::2]
        assert status == 200
        eventually(
            lambda: (
                listed["results"][0]["id"]
                not in [hit["id"] for hit in ask.get(f"/items/sku-4/similar?k=4&visitor={in_test}")["results"]]
            )
        )
        tgq("store", "share", shop.folder / "store")
        eventually(lambda: {of(one) for one in who} == {served})
    found = json.loads(tgq("store", "report", shop.folder, "--json"))
    assert [one["version"] for one in found] == [listed["model_version"]]


def test_shares_for_versions_that_the_report_cannot_tell_apart_are_warned_of(shop: Shop) -> None:
    other, same = shop.create(1, serve=False), shop.create(0, serve=False)
    warned = [
        "versions of one model" in tgq("store", "share", shop.folder / "store", f"{one.name}=0.3")
        for one in (other, same)
    ]
    assert warned == [False, True]


def test_the_share_of_a_version_that_cannot_be_opened_is_the_served_ones(shop: Shop) -> None:
    one, other = shop.create(1, serve=False), shop.create(0, serve=False)
    shop.store.share({one.name: 0.4, other.name: 0.2})
    hidden = shop.folder / "store" / "tables" / f"{one.name}.lance"
    hidden.rename(shop.folder / "elsewhere")
    with serving(shop) as running:
        who = [f"visitor-{n}" for n in range(2000)]

        def answers() -> list[str]:
            return [running.site.chosen(name).version.name for name in who]

        before = answers()
        assert one.name not in before and 0.15 < np.mean([name == other.name for name in before]) < 0.25
        (shop.folder / "elsewhere").rename(hidden)
        eventually(lambda: one.name in answers())
        after = answers()
        assert 0.35 < np.mean([name == one.name for name in after]) < 0.45
        assert [name == other.name for name in before] == [name == other.name for name in after]


def test_shares_are_followed_while_the_catalogue_is_damaged(shop: Shop) -> None:
    other = shop.create(1, serve=False)
    with serving(shop) as running:
        ask = running.client()
        (shop.folder / "catalog" / "catalog.json").write_text("{")
        tgq("store", "share", shop.folder / "store", f"{other.name}=0.9")
        asked = [f"/items/sku-4/similar?k=4&visitor=visitor-{n}" for n in range(20)]
        eventually(lambda: other.model_version in {ask.get(path)["model_version"] for path in asked})


def test_events_of_a_search(shop: Shop, tmp_path: Path) -> None:
    with serving(shop) as running:
        ask = running.client()
        words = ("red shoe", "blue shirt", "red shoe")
        (_, found), (_, other), (_, again) = (ask.form("POST", "/search?k=4", title=one) for one in words)
        assert found["answer"] == again["answer"] != other["answer"]
        clicked = found["results"][1]["id"]
        about = {"answer": found["answer"], "visitor": "ann"}
        events = [{**about, "event": "view"}, {**about, "event": "click", "item": clicked}]
        assert sent(running, [*events, {"answer": other["answer"], "event": "view"}]) == (200, {"kept": 3})
        assert sent(running, {**about, "event": "click", "item": "sku-99"})[0] == 422
        log = tmp_path / "log.parquet"
        tgq("store", "report", shop.folder, "--export-log", log)
    [told] = json.loads(tgq("store", "report", shop.folder, "--json"))
    assert told["views"] == 2 and told["units"] == 2 and told["ctr"]["mean"] == 0.5
    assert [(row["item"], row["event"]) for row in pq.read_table(log).to_pylist()] == [(clicked, "click")]


def test_from_a_list_to_a_report_and_a_click_log(shop: Shop, tmp_path: Path) -> None:
    luck = random.Random(0)
    with serving(shop) as running:
        ask = running.client()
        for visitor in range(30):
            answer = ask.get(f"/items/sku-{visitor % 5}/similar?k=4" + ("&diversity=0.2" if visitor % 3 == 0 else ""))
            listed = [hit["id"] for hit in answer["results"]]
            about = {"answer": answer["answer"], "visitor": f"visitor-{visitor}"}
            status, body = sent(running, [{**about, "event": "view", "id": f"view-{visitor}"}])
            assert (status, body) == (200, {"kept": 1})
            if visitor % 2:
                clicks = [{**about, "event": kind, "item": luck.choice(listed)} for kind in ("click", "cart", "buy")]
                assert sent(running, clicks) == (200, {"kept": 3})
        assert sent(running, {**about, "event": "view", "id": "view-3"}) == (200, {"kept": 0})
        for wrong, words in (
            ({**about, "event": "click", "item": "sku-99"}, "did not hold"),
            ({**about, "event": "click"}, "send `item`"),
            ({**about, "event": "smile"}, "event"),
            ({"answer": "x", "event": "view"}, "no id of an answer"),
            ([], "at least 1"),
        ):
            status, body = sent(running, wrong)
            assert status == 422 and words in body["error"], body
        page, log = tmp_path / "sales.html", tmp_path / "log.parquet"
        output = tgq("store", "report", shop.folder, "--html", page, "--export-log", log)
    version = shop.model(0).version
    assert max(len(line) for line in output.splitlines() if "%" in line) <= 80
    assert output.count(version) == 2 and '{"diversity":0.2}' in output
    found = json.loads(tgq("store", "report", shop.folder, "--json"))
    assert [one["views"] for one in found] == [20, 10] and found[0]["lift"] is None
    assert found[0]["ctr"]["mean"] == 0.5 and found[0]["coverage"] is not None and len(found[0]["places"]) == 4
    told = page.read_text()
    assert version in told and "CTR" in told and "<script" not in told
    rows = pq.read_table(log).to_pydict()
    assert len(rows["item"]) == 15 * 3 * 2 and set(rows["event"]) == {"view", "click", "cart", "buy"}
    tgq("pairs", "mine", log, "--to", tmp_path / "pairs.parquet", "--min-support", "1")
    assert pq.read_table(tmp_path / "pairs.parquet").num_rows > 0
    with pytest.raises(TgqError, match="exists already"):
        tgq("store", "report", shop.folder, "--export-log", log)


@needs_browser
def test_axe_finds_nothing_on_the_page(tmp_path: Path) -> None:
    rate = of_ratio([3, 4, 5], [9, 9, 9])
    place = PlaceSales(1, 27, 12, rate)
    one = Sales("m-1", "", 27, 3, rate, rate, rate, 0.5, [place], None)
    write_sales_page(tmp_path / "sales.html", [one, replace(one, version="m-<2>", lift=rate)])
    assert "m-&lt;2&gt;" in (tmp_path / "sales.html").read_text()
    assert_accessible(tmp_path / "sales.html")
