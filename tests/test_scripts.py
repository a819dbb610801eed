"""Titles in scripts that a text model cannot read: found by its tokenizer, told with shares and a way out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tgqformer.catalog.catalog import Catalog
from tgqformer.catalog.item import Item
from tgqformer.catalog.writer import CatalogWriter
from tgqformer.model.encoding import make_encoders, unread_titles
from tgqformer.model.language import LoRA, make_language
from tgqformer.model.prompt import Prompt
from tgqformer.scripts import Tokenize, packaged_tokenizer, tokenizer_of, unread, words_of

CHINESE = ["红色连衣裙", "蓝色衬衫", "电饭锅", "手机壳", "儿童运动鞋"]
THAI = ["แก้วสีแดง", "เสื้อเชิ้ตสีน้ำเงิน", "หม้อหุงข้าว", "โคมไฟ", "รองเท้า"]
EMOJI = ["👗👗", "👟", "💡🔥", "🍚", "📱"]
GERMAN = ["Rote Tasse", "Blaues Hemd", "Schreibtischlampe", "Turnschuhe", "Reiskocher"]


@pytest.fixture(scope="module")
def minilm() -> tuple[Tokenize, int | None]:
    found = packaged_tokenizer()
    assert found is not None
    return found


def test_words_are_told_apart_by_script() -> None:
    assert words_of("Nike 红色-裙 №5, แก้วสีแดง! 👩‍👧 €12 Größe") == [
        ("Nike", "Latin"), ("红色", "Chinese"), ("裙", "Chinese"), ("№", "emoji"), ("5", "Latin"),
        ("แก้วสีแดง", "Thai"), ("👩‍👧", "emoji"), ("12", "Latin"), ("Größe", "Latin"),
    ]  # fmt: skip
    assert words_of("") == words_of(" - ") == []


def test_the_titles_of_four_scripts(minilm: tuple[Tokenize, int | None]) -> None:
    told = unread([*CHINESE, *THAI, *EMOJI, *GERMAN, None, ""], *minilm, "minilm")
    assert told is not None
    assert told.startswith("minilm cannot read 15 of 20 titles: it does not know 68% of their words (")
    for share in (
        "Chinese 100%",
        "Thai 100%",
        "emoji 100%",
        "recipe `multilingual`",
        "encoders.text=hf:",
        "language.name=hf:",
    ):
        assert share in told
    assert "Latin" not in told


@pytest.mark.parametrize("titles", [CHINESE, THAI, EMOJI, ["Красная кружка"], ["빨간 컵"], ["κόκκινο φλιτζάνι"]])
def test_each_of_them_is_found_among_many(minilm: tuple[Tokenize, int | None], titles: list[str]) -> None:
    assert unread([*["A red mug"] * 20, *titles], *minilm, "minilm") is not None


@pytest.mark.parametrize(
    "titles",
    [GERMAN, ["Tasse à café", "żółta sukienka", "áo sơ mi trắng"], ["Mug 🔥 hot"], ["Mug ™ €12 ½"], [], [None]],
)
def test_what_is_read_is_not_told(minilm: tuple[Tokenize, int | None], titles: list[str | None]) -> None:
    assert unread(titles, *minilm, "minilm") is None


def test_a_few_among_many_do_not_matter(minilm: tuple[Tokenize, int | None]) -> None:
    assert unread([*["A red mug"] * 500, *CHINESE], *minilm, "minilm") is None


def test_the_tokenizer_of_a_model_tells_the_same(minilm: tuple[Tokenize, int | None]) -> None:
    from tgqformer.encoders.minilm import packaged_folder

    titles = [*CHINESE, *THAI, *EMOJI, *GERMAN]
    whole = tokenizer_of(AutoTokenizer.from_pretrained(packaged_folder()))
    assert unread(titles, *whole, "m") == unread(titles, *minilm, "m")


def test_a_model_tells_of_its_encoder_and_of_its_language_model(tiny_model: Callable[[str], Path]) -> None:
    encoders = make_encoders(f"hf:{tiny_model('vit')}", f"hf:{tiny_model('bert')}", Prompt(), {})
    language = make_language(f"hf:{tiny_model('llama')}", lora=LoRA(0))
    for prompt, count in ((Prompt(), 2), (Prompt(fields=("brand",)), 0)):
        encoders = type(encoders)(encoders.vision, encoders.text, prompt)
        assert len(unread_titles(["red shirt", "红色"], encoders, language)) == count
    assert unread_titles(["red shirt"], encoders, language) == []


def test_an_import_tells_of_the_packaged_model_without_loading_torch(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("id,title\n" + "".join(f"{i},{title}\n" for i, title in enumerate(THAI)))
    code = (
        "import sys; from tgqformer.cli import main\nsys.argv = 'tgq catalog import shop.csv --to out'.split()\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    said = " ".join(done.stderr.split())
    assert "warning: the packaged text encoder minilm cannot read 5 of 5 titles" in said and "Thai 100%" in said
    assert done.stdout.splitlines()[-1] == "False"


def test_embedding_tells_once_before_it_begins(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from store_rows import tiny_embedder

    from tgqformer.store.embed import embed_catalog

    with CatalogWriter(tmp_path / "catalog", name="thai", pack=True) as writer:
        for at, title in enumerate(THAI):
            writer.add(Item(f"th-{at}", title))
    model = tiny_embedder(tiny_model, 0)
    for left, told in ((5, 1), (0, 0)):
        report = embed_catalog(model, Catalog.open(tmp_path / "catalog"), tmp_path / "e", workers=1)
        said = " ".join(capsys.readouterr().err.split())
        assert report.embedded == left and said.count("cannot read 5 of 5 titles") == told
