"""What a release ships beside the code: images, workflows, templates; each names only what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from doc_commands import ROOT, check_command

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def lines_of_dockerfile() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_the_image_copies_what_is_there_and_serves() -> None:
    lines = lines_of_dockerfile()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    command = next(yaml.safe_load(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD "))
    entry = next(yaml.safe_load(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT "))
    check_command([*entry, *command])
    assert any(line.startswith("USER tgq") for line in lines), "the service does not run as root"
    extras = re.search(r"'\.\[([\w,]+)\]'", "\n".join(lines))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras is not None and all(re.search(rf"^{name} = \[", text, re.MULTILINE) for name in extras[1].split(","))


def test_compose_serves_a_store_in_postgresql() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"store", "service"}
    check_command(["tgq", *services["service"]["command"]])
    assert "TGQ_PASSWORD" in services["store"]["environment"]["POSTGRES_PASSWORD"], "no password stands in the file"
    assert all(port.startswith("127.0.0.1:") for port in services["service"]["ports"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert runs
    for words in map(str.split, runs):
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)
        elif words[0].startswith("."):
            assert (ROOT / words[0]).is_file()
    for name in re.findall(r"build (packages/\w+)", " ".join(runs)):
        assert (ROOT / name / "pyproject.toml").is_file()


def test_the_pretrained_package_is_small_and_whole() -> None:
    folder = ROOT / "packages" / "small" / "src" / "tgqformer_small" / "model"
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "prompt.json", "model.safetensors", "language.safetensors"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12e6


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_templates_ask_for_something(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"] and form["description"] and any(field.get("validations") for field in form["body"])
