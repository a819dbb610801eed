"""What a release ships beside the code: images, workflows, templates; each names only what is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from doc_commands import ROOT, blocks, check_command

from tgqformer.packages import EXTRAS
from tgqformer.version import __version__

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def lines_of_dockerfile(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.onnx"])
def test_the_image_copies_what_is_there_and_serves(name: str) -> None:
    lines = lines_of_dockerfile(name)
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    command = next(yaml.safe_load(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD "))
    entry = next(yaml.safe_load(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT "))
    check_command([*entry, *command])
    assert any(line == "USER 1000" for line in lines), "the service does not run as root"
    extras = re.search(r"'\.\[([\w,-]+)\]'", "\n".join(lines))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert extras is not None and all(re.search(rf"^{name} = \[", text, re.MULTILINE) for name in extras[1].split(","))


def test_compose_serves_a_store_in_postgresql() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"store", "service"}
    places = " ".join(services["service"]["command"])
    for part in ("models/tgq-former/served/model", "catalog", "neighbours", "recipe.yaml"):  # as a run leaves them
        assert part in places
    check_command(["tgq", *services["service"]["command"]])
    head = " ".join(line.lstrip("# ") for line in (ROOT / "compose.yaml").read_text(encoding="utf-8").splitlines()[:7])
    fill = re.search(r"run --rm service (index \S+ .*?) docker compose up", head)
    assert fill is not None and fill[1].split()[1] == "/data/run/embeddings/tgq-former"  # a run has those of each model
    check_command(["tgq", *shlex.split(fill[1])])
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


@pytest.mark.slow
def test_make_speed_measures_by_scripts_that_ask_for_nothing() -> None:
    names = re.search(
        r"^speed:.*\n\tfor name in ([^;]*);.*benchmarks/", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
    )
    assert names is not None and len(names[1].split()) == 3
    for name in names[1].split():
        script = ROOT / "benchmarks" / f"{name}.py"
        done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
        usage = done.stdout.partition("\n\n")[0].partition(script.name)[2]
        assert not re.sub(r"\[[^\]]*\]", "", usage).strip(), usage  # no word that must be given


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


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WITHOUT = """
import sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # importing it fails, as where it is not installed
exec(sys.argv[1])
"""


def without_extras(code: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run code where nothing that only some users need can be imported, but what trains and embeds."""
    hidden = [module for module, extra in EXTRAS.items() if extra != "train"]
    command = [sys.executable, "-c", WITHOUT, code, ",".join(hidden)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=where)


@pytest.mark.slow
def test_the_first_block_of_the_readme_needs_nothing_but_what_trains(tmp_path: Path) -> None:
    code = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    done = without_extras(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if " → " in line]) == 5


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("noise sheet catalog", "noise"),
        ("demo --quick", "demo"),
        ("run demo --set noise.share=0", "report,store"),
        ("similar a --store catalog", "store"),
    ],
)
def test_what_needs_an_extra_names_it_before_any_work(words: str, extra: str, tmp_path: Path) -> None:
    code = f"""
from tgqformer.synthetic.studio import draw_studio
draw_studio("catalog", items=3)
from tgqformer.cli import main
sys.argv = ["tgq", *{words.replace("noise.share=0", "noise.share=0 --set evaluation.views=[mixed]").split()!r}]
main()
"""
    done = without_extras(code, tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'tgqformer[{extra}]'" in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["catalog"]


def test_every_extra_that_an_error_names_is_there_and_brings_its_module() -> None:
    extras = PYPROJECT["optional-dependencies"]
    brings = {"lancedb": "lancedb", "cv2": "opencv-python-headless", "lance": "pylance", "matplotlib": "matplotlib"}
    brings |= {"datasets": "datasets", "sentence_transformers": "sentence-transformers", "ray": "ray"}
    brings |= {module: module for module in ("obstore", "onnx", "onnxruntime", "onnxscript")}
    brings |= {module: module for module, extra in EXTRAS.items() if extra == "train"}
    for module, extra in EXTRAS.items():
        assert any(line.startswith(brings[module]) for line in extras[extra])
        assert not any(line.startswith(brings[module]) for line in PYPROJECT["dependencies"])


def test_the_version_is_one_in_every_place() -> None:
    small = tomllib.loads((ROOT / "packages/small/pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None and {small["version"], cited, newest[1], __version__} == {"0.2.0"}
    assert small["dependencies"] == [f"tgqformer[packaged]>={__version__.rpartition('.')[0]}"]


def test_classifiers_name_the_versions_of_python_that_the_workflow_tests() -> None:
    named = {line.rpartition(" ")[2] for line in PYPROJECT["classifiers"] if line.startswith("Programming Language")}
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]
    setup = jobs["all"]["steps"][1]["with"]["python-version"]
    assert named == {setup, *jobs["versions"]["strategy"]["matrix"]["python"]} == {"3.11", "3.12", "3.13"}
