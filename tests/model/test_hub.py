"""To the hub and back, against a hub that speaks HTTP on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from doc_commands import ROOT, run_code
from hub_server import Hub, client_of_a_hub
from huggingface_hub import constants
from typer.testing import CliRunner

from tgqformer import Catalog, Item, ItemEmbedder
from tgqformer.cli import app
from tgqformer.encoders import make_text, make_vision
from tgqformer.errors import TgqError
from tgqformer.model.card import read_card
from tgqformer.model.frozen import FrozenPart
from tgqformer.model.hub import FILES, locate_model, name_of
from tgqformer.model.multimodal import load_multimodal
from tgqformer.model.version import version_of
from tgqformer.store import open_store

ME = "me/similar-items"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with client_of_a_hub(tmp_path / "hub", monkeypatch) as server:
        yield server


def test_the_code_of_the_page_publishes(build, hub: Hub, tmp_path: Path) -> None:
    build("tgq").save(tmp_path / "model")
    publish = run_code(ROOT / "docs/hub.md", "def publish")["publish"]
    assert publish(tmp_path / "model", ME) == (True, True) and hub.repos[ME].branches["main"]


def test_there_and_back_is_the_same_model(build, hub: Hub, tiny_items: list[Item], tmp_path: Path) -> None:
    model = build("tgq")
    name = model.push_to_hub(ME)
    repo, _, commit = name.partition("@")
    assert repo == ME and hub.repos[ME].branches["main"] == commit
    found = ItemEmbedder.from_pretrained(ME)
    assert found.source == name
    vectors = found.encode(tiny_items)
    np.testing.assert_allclose(vectors, model.encode(tiny_items), atol=1e-5)  # its adapters are merged
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(vectors, ItemEmbedder.load(tmp_path / "model").encode(tiny_items))
    before = len(hub.requests)
    local = ItemEmbedder.from_pretrained(ME, local_files_only=True)
    assert len(hub.requests) == before and local.source == name and local.version == found.version
    assert name_of(locate_model(name, local_files_only=True)) == name


def test_only_data_goes_there_and_comes_back(build, hub: Hub, tmp_path: Path) -> None:
    build("mlp").save(tmp_path / "model")
    (tmp_path / "model" / "run_me.py").write_text("raise SystemExit('code was run')")
    (tmp_path / "model" / "weights.bin").write_bytes(b"\x80\x04")
    result = CliRunner().invoke(app, ["model", "push", str(tmp_path / "model"), ME])
    assert isinstance(result.exception, TgqError) and "not as it was saved" in str(result.exception)
    (tmp_path / "model" / "run_me.py").unlink()
    (tmp_path / "model" / "weights.bin").unlink()
    assert CliRunner().invoke(app, ["model", "push", str(tmp_path / "model"), ME]).exit_code == 0
    assert "README.md" in hub.files(ME) and {Path(one).suffix for one in hub.files(ME)} <= {
        "", ".json", ".safetensors", ".txt", ".md"}  # fmt: skip
    evil = {**hub.files(ME), "modeling.py": b"raise SystemExit('code was run')", "pytorch_model.bin": b"\x80\x04"}
    config = json.loads(evil["language/config.json"])
    evil["language/config.json"] = json.dumps(config | {"auto_map": {"AutoModel": "modeling.Model"}}).encode()
    hub.repos[ME].commit("evil", evil)
    with pytest.raises(TgqError, match="not as it was saved"):  # a changed file is refused before it is read
        ItemEmbedder.from_pretrained(ME, revision="evil")
    folder = locate_model(ME, revision="evil")
    assert not [path for path in folder.rglob("*") if path.suffix in (".py", ".bin")] and "*.py" not in FILES


@pytest.mark.parametrize("make", [make_text, make_vision, load_multimodal], ids=["text", "pictures", "multimodal"])
def test_code_of_a_model_is_never_run(make: Callable[[str], object], tmp_path: Path, tiny_model) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(tiny_model("bert"), folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\nclass Evil: pass\n")
    own = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": "evil.Evil"}
    for file in ("config.json", "tokenizer_config.json"):
        told = json.loads((folder / file).read_text()) | {"model_type": "evil", "auto_map": own}
        (folder / file).write_text(json.dumps(told))
    with pytest.raises(TgqError):
        make(f"hf:{folder}" if make is not load_multimodal else str(folder))
    assert not (tmp_path / "was-run").exists()


def test_revisions(build, hub: Hub, tiny_items: list[Item]) -> None:
    first, second = build("mlp").push_to_hub(ME), build("mean").push_to_hub(ME)
    trial = build("tgq").push_to_hub(ME, revision="trial")
    commits = [name.partition("@")[2] for name in (first, second, trial)]
    assert len(set(commits)) == 3
    assert ItemEmbedder.from_pretrained(ME).source == second
    assert ItemEmbedder.from_pretrained(ME, revision=commits[0]).source == first
    assert ItemEmbedder.from_pretrained(f"{ME}@trial").recipe["connector"] == "tgq"
    assert not {name for name in hub.files(ME) if "alignment" in name}  # what an earlier model left is gone
    with pytest.raises(TgqError, match=rf"does not give '{ME}@no-such'.*"):
        ItemEmbedder.from_pretrained(ME, revision="no-such")
    with pytest.raises(TgqError, match="names a revision, and 'main' is given too"):
        locate_model(f"{ME}@trial", revision="main")


def test_what_cannot_be_had_is_told(build, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TgqError, match=r"the hub does not give 'me/nothing'"):
        ItemEmbedder.from_pretrained("me/nothing")
    with pytest.raises(TgqError, match=r"the hub does not give 'me/nothing'"):
        ItemEmbedder.from_pretrained("me/nothing", local_files_only=True)
    build("mlp").push_to_hub("me/secret", private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(TgqError, match="does not give 'me/secret'"):
        ItemEmbedder.from_pretrained("me/secret")
    with pytest.raises(TgqError, match=r"does not take 'me/other'.*hf auth whoami"):
        build("mlp").push_to_hub("me/other")
    with pytest.raises(TgqError, match=r"'similar-items' is no hub id; write OWNER/NAME"):
        build("mlp").push_to_hub("similar-items")
    with pytest.raises(TgqError, match="nowhere is not a saved model: there is no such folder"):
        locate_model("nowhere")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    before = len(hub.requests)
    with pytest.raises(TgqError, match="there is no folder runs/shop"):
        locate_model("runs/shop")
    with pytest.raises(TgqError, match="a folder has no revision"):
        locate_model("runs", revision="main")
    assert len(hub.requests) == before  # a path with a slip is nobody's business


def test_a_hub_that_is_not_there_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TgqError, match="the hub does not give 'me/model'"):
        ItemEmbedder.from_pretrained("me/model")


def test_the_store_remembers_the_commit(build, hub: Hub, tiny_catalog: Catalog, tmp_path: Path) -> None:
    name = build("mlp").push_to_hub(ME)
    catalog, store = str(tiny_catalog.path), str(tmp_path / "store")
    for words in (
        ["embed", catalog, "--model", ME, "--to", str(tmp_path / "embeddings")],
        ["index", str(tmp_path / "embeddings"), "--catalog", catalog, "--to", store, "--model", ME],
        ["sync", catalog, "--store", store],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exception is None, result.output
    assert "embedded 0, updated 0, deleted 0, unchanged 12" in result.output
    version = open_store(store).versions()[-1]
    assert version.model == name and version.model_version == ItemEmbedder.from_pretrained(ME).version


def test_a_command_asks_the_endpoint_of_the_environment(build, hub: Hub, tmp_path: Path) -> None:
    build("mlp").push_to_hub(ME)
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", "from tgqformer.cli import main; main()", "model", "card", ME]
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| connector | mlp |" in done.stdout
    nobody = {**os.environ, **own, "HF_ENDPOINT": "http://127.0.0.1:9"}
    command.append("--local-files-only")
    offline = subprocess.run(command, env=nobody, capture_output=True, text=True, check=False)
    assert offline.stdout == done.stdout


def test_a_card_says_whether_vectors_may_be_cut(build, tmp_path: Path) -> None:
    model = build("tgq")
    for cuts, words in (((), "not trained for it"), ((4, 8), "yes, trained for 4, 8")):
        model.cuts = cuts
        model.save(tmp_path / "model")
        loaded = ItemEmbedder.load(tmp_path / "model")
        assert loaded.cuts == cuts and f"| first dimensions alone | {words}" in loaded.card
    model.begin_at(FrozenPart(model.widths, 0.4), 0.5)
    model.save(tmp_path / "model")
    assert "| first dimensions alone | no: the first are those of what it does not learn" in read_card(
        tmp_path / "model"
    )


def test_a_card_stays_with_its_model(build, tmp_path: Path) -> None:
    model = build("tgq")
    model.save(tmp_path / "model")
    plain = read_card(tmp_path / "model")
    assert plain.startswith("---\nlibrary_name: tgqformer\n") and "None: this model was saved without" in plain
    version = version_of(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("# Mine\n")
    loaded = ItemEmbedder.load(tmp_path / "model")
    assert loaded.version == version and loaded.card == "# Mine\n" and loaded.source == str(tmp_path / "model")
    loaded.save(tmp_path / "copy")
    assert read_card(tmp_path / "copy") == "# Mine\n"
    result = CliRunner().invoke(app, ["model", "card", str(tmp_path / "copy")])
    assert result.output.startswith("# Mine")


def test_a_pretrained_model_is_named_like_any_other() -> None:
    model = ItemEmbedder.from_pretrained("small")
    assert model.version == ItemEmbedder.pretrained("small").version
    result = CliRunner().invoke(app, ["model", "card", "small"])
    assert "| connector | tgq |" in result.output
