"""A run that trains in two processes: one of them killed, gone on with, and launchers that start fewer than asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_runs import walk_page
from safetensors.torch import load_file
from tiny_recipe import write_clicks, write_recipe, write_table

from tgqformer.errors import TgqError
from tgqformer.training.processes import check_group, promised
from tgqformer.training.settings import TrainingSettings

JOB = """
import os, signal, sys
from pathlib import Path
from tgqformer.cli import main

if __name__ == "__main__":
    main()
elif os.environ.get("DIES"):  # in a rank: it dies in the fourth step
    from tgqformer.training.batches import PairBatches
    drawn = PairBatches.at
    def at(self, step, place):
        if step == 3 and place.process_index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(self, step, place)
    PairBatches.at = at
"""


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_goes_on_to_the_same_weights(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    write_table(tmp_path, 36)
    write_clicks(tmp_path, 36, 60)
    training = {"steps": 6, "visual_steps": 0, "checkpoint_every": 1, "precision": "float32", "validate_every": 3}
    recipe = write_recipe(tmp_path, tiny_model, pairs={}, training=training, model={"preset": "given", "share": 1})
    (tmp_path / "job.py").write_text(JOB)

    def run(to: str, *more: str, dies: str = "") -> subprocess.CompletedProcess[str]:
        words = ["run", str(recipe), "--to", str(tmp_path / to), "--until", "train", *more]
        command = [sys.executable, str(tmp_path / "job.py"), *words]
        return subprocess.run(command, env={**os.environ, "DIES": dies}, capture_output=True, text=True, check=False)

    def weights(to: str) -> dict[str, bytes]:
        [file] = (tmp_path / to).glob("models/*/seed-0/model/model.safetensors")
        return {name: value.numpy().tobytes() for name, value in load_file(file).items()}

    killed = run("killed", "--nproc", "2", dies="yes")
    told = " ".join(killed.stderr.split())
    assert killed.returncode == 2 and "process 2 of 2 was killed (SIGKILL)" in told, told
    assert "Traceback" not in told and "goes on from the last checkpoint" in told
    again = run("killed", "--nproc", "2")
    assert again.returncode == 0, again.stderr

    folders = ["whole", "spread"]

    def as_shown(words: list[str]) -> None:
        assert words[:3] == ["tgq", "run", recipe.name]
        done = run(folders.pop(0), *words[3:])
        assert done.returncode == 0, done.stderr

    walk_page("docs/cluster.md", as_shown, "Training in several processes", "A language model that fills a GPU")
    assert not folders and weights("killed") == weights("whole") == weights("spread")
    [log] = (tmp_path / "whole").glob("models/*/seed-0/log.jsonl")
    assert len(log.read_text().splitlines()) == 6


@pytest.mark.slow
def test_a_launcher_that_starts_fewer_than_asked_is_refused(tmp_path: Path) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process and says nothing."""
    script = tmp_path / "train.py"
    script.write_text("from tgqformer.training.processes import check_group\ncheck_group()\n")
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu", "--num_processes"]
    for count, status in (("2", 1), ("1", 0)):
        done = subprocess.run([*command, count, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert ("2 processes were asked for, and 1 train together" in done.stderr) == (count == "2")
    check_group()


def test_what_a_launcher_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / str(os.getppid())).mkdir()
    for words, count in (
        ("/bin/accelerate launch --num_processes=4 train.py", 4),
        ("python /bin/accelerate launch --num-processes 3 train.py", 3),
        ("python train.py --num_processes 3", 1),
    ):
        (tmp_path / str(os.getppid()) / "cmdline").write_bytes(words.replace(" ", "\0").encode())
        assert promised(tmp_path) == count
    assert promised(tmp_path / "nothing") == 1


def test_settings_of_several_processes() -> None:
    with pytest.raises((TgqError, ValueError), match="give checkpoint_every"):
        TrainingSettings(processes=2, checkpoint_every=0)
    one, two = (TrainingSettings(processes=count).resolved(6400) for count in (1, 2))
    assert (one.steps, two.steps) == (400, 200)
