"""How metadata becomes text."""

from __future__ import annotations

import json

import pytest

from tgqformer.catalog.item import Item
from tgqformer.config import parse, plain
from tgqformer.errors import TgqError
from tgqformer.model.prompt import Prompt

ITEM = Item(
    "1", "Redtape Men Black & White Shirt", "Acme", ("Clothing", "Shirts"), {"sleeve_length": "short", "fit": "slim"}
)


def test_all_fields_in_order():
    assert Prompt().metadata(ITEM) == (
        "Redtape Men Black & White Shirt. Acme. Clothing > Shirts. sleeve length: short, fit: slim"
    )
    assert Prompt(("category", "title")).metadata(ITEM) == "Clothing > Shirts. Redtape Men Black & White Shirt"


def test_attributes_that_are_not_named_stay_unseen():
    assert Prompt(("attributes",), attributes=("fit", "color")).metadata(ITEM) == "fit: slim"
    assert Prompt(("attributes",), attributes=()).metadata(ITEM) == ""


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("Redtape Men Black & White Shirt", "Redtape Men & Shirt"),
        ("Navy Blue - Shirt", "Shirt"),
        ("Shirt, OFF-WHITE", "Shirt"),
        ("Bluetooth Goldsmith Tanned Reddish", "Bluetooth Goldsmith Tanned Reddish"),
        ("White", ""),
    ],
)
def test_colour_words_are_cut_and_words_that_hold_them_are_not(title, left):
    prompt = Prompt(("title", "brand"), cut_words="colours")
    assert prompt.metadata(Item("1", title)) == left
    assert Prompt(("title",)).metadata(Item("1", title)) == title


def test_only_the_title_is_cut():
    assert Prompt(cut_words="colours").metadata(Item("1", "Red", brand="Red Bull")) == "Red Bull"


def test_an_item_without_anything_has_no_metadata_and_the_template_alone():
    prompt = Prompt(template="Product: {metadata}\nIn one word:")
    assert prompt.metadata(Item("1")) == ""
    assert prompt.text(Item("1")) == "Product: \nIn one word:"
    assert prompt.text(Item("1", "{metadata} shirt")) == "Product: {metadata} shirt\nIn one word:"
    assert Prompt().text(Item("1")) == ""


def test_a_prefix_stands_before_each_text_that_there_is():
    prompt = Prompt(("title",), template="{metadata} in one word:", prefix="query: ")
    assert prompt.metadata(ITEM) == "query: Redtape Men Black & White Shirt"
    assert prompt.text(ITEM) == "query: Redtape Men Black & White Shirt in one word:"
    assert prompt.metadata(Item("1")) == "" and prompt.text(Item("1")) == " in one word:"


def test_wrong_prompts_are_refused():
    with pytest.raises(ValueError, match="must contain"):
        Prompt(template="Product:")
    with pytest.raises(TgqError, match=r"fields\.0: 'titel' is not known; did you mean 'title'"):
        parse(Prompt, {"fields": ["titel"]}, "here")
    with pytest.raises(ValueError, match="each once"):
        Prompt(("title", "title"))


@pytest.mark.parametrize(
    "prompt", [Prompt(), Prompt(("title",), ("fit",), "colours", "a {metadata}"), Prompt((), (), prefix="query: ")]
)
def test_a_prompt_goes_through_json(prompt):
    assert parse(Prompt, json.loads(json.dumps(plain(prompt))), "here") == prompt


def test_metadata_is_cut_where_the_template_goes_on_after_it():
    prompt = Prompt(template="Product: {metadata}. In one word:")
    told = ["a shirt", "one two three four five six", ""]
    assert prompt.asked(told, lambda texts: [len(text.split()) <= 7 for text in texts]) == [
        "Product: a shirt. In one word:", "Product: one two three. In one word:", "Product: . In one word:"
    ]  # fmt: skip
    assert prompt.asked(["one two"], lambda texts: [False] * len(texts)) == ["Product: . In one word:"]
    assert prompt.asked([], lambda texts: []) == []
    plain = Prompt(template="Product: {metadata}")  # the language model cuts at the end
    assert plain.asked(told, lambda texts: [False] * len(texts)) == [f"Product: {text}" for text in told]
