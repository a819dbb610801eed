"""Trackers get every row of a training's log, by Accelerate's protocol; each that is installed here is really run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.tracking import GeneralTracker
from short_runs import SETTINGS, StopError, rows_of, run, validation

from tgqformer.errors import TgqError
from tgqformer.training.log import check_trackers

torch.set_num_threads(1)


def test_tensorboard_gets_every_row_once(make_model, toy, sampler, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = replace(SETTINGS, trackers=("tensorboard",))
    with pytest.raises(StopError):
        run(make_model("mlp"), toy, sampler, settings, tmp_path, validation(dies_at=4))
    run(make_model("mlp"), toy, sampler, settings, tmp_path, validation())
    found = events.EventAccumulator(str(tmp_path / "tgqformer"))
    found.Reload()
    rows = rows_of(tmp_path)
    assert set(found.Tags()["scalars"]) == {*rows[0], "val_hit@10", "val_error", "kept_step"} - {"step"}
    written = [(event.step, event.value) for event in found.Scalars("loss")]
    assert written == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]
    assert f"\nbatch: {SETTINGS.batch}\n" in next((tmp_path / "tgqformer").rglob("hparams.yml")).read_text()


def test_mlflow_gets_every_row_and_the_settings(make_model, toy, sampler, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    place = tmp_path / "shop/models/tgq-former/seed-0/given"
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, trackers=("mlflow",)), place, validation())
    found = mlflow.search_runs(experiment_names=["tgqformer"], output_format="list")
    assert [(one.info.run_name, one.info.status) for one in found] == [("shop/tgq-former/seed-0/given", "FINISHED")]
    assert found[0].data.params["batch"] == str(SETTINGS.batch) and found[0].data.params["lr"] == str(SETTINGS.lr)
    rows = rows_of(place)
    client = mlflow.tracking.MlflowClient()
    for name in ("loss", "val_hit@10"):
        kept = [(row["step"], row[name]) for row in rows if name in row]
        logged = client.get_metric_history(found[0].info.run_id, name.replace("@", "_at_"))
        assert [(metric.step, metric.value) for metric in logged] == [(step, pytest.approx(at)) for step, at in kept]


def records(path: Path) -> Iterator[bytes]:
    """Yield what W&B wrote offline: blocks of 32 KB with pieces of records, as in the log of LevelDB."""
    whole = path.read_bytes()
    at, record = 7, b""  # after the file's own head
    while at + 7 < len(whole):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", whole, at + 4)
        record += whole[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_wandb_gets_every_row_and_the_settings(make_model, toy, sampler, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(make_model("mlp"), toy, sampler, replace(SETTINGS, trackers=("wandb",)), tmp_path / "run", validation())
    wandb.teardown()  # its own process has then written everything
    written = [Record.FromString(record) for record in records(next(tmp_path.rglob("*.wandb")))]
    assert next(record.run.project for record in written if record.HasField("run")) == "tgqformer"
    told = {
        change.key: json.loads(change.value_json)
        for record in written
        if record.HasField("config") or record.HasField("run")
        for change in (*record.config.update, *record.run.config.update)
    }
    assert told["batch"] == SETTINGS.batch and told["lr"] == SETTINGS.lr
    logged = [
        {"/".join(field.nested_key) or field.key: json.loads(field.value_json) for field in record.history.item}
        for record in written
        if record.HasField("history")
    ]
    rows = rows_of(tmp_path / "run")
    assert [{name: row[name] for name in row if name[0] != "_"} for row in logged] == [
        {name: pytest.approx(row[name]) for name in row if name != "step"} for row in rows
    ]
    assert [row["_step"] for row in logged] == [row["step"] for row in rows]


class Kept(GeneralTracker):
    """A tracker of one's own, by Accelerate's protocol."""

    name, requires_logging_directory = "kept", False

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.told, self.finished = [], {}, 0

    @property
    def tracker(self):
        return self.rows

    def store_init_configuration(self, values):
        self.told = values

    def log(self, values, step=None, **_):
        self.rows.append({"step": step, **values})

    def finish(self):
        self.finished += 1


def test_a_tracker_of_ones_own(make_model, toy, sampler, tmp_path):
    mine = Kept()
    run(make_model("mlp"), toy, sampler, SETTINGS, tmp_path, trackers=[mine])
    assert mine.rows == rows_of(tmp_path) and mine.finished == 1
    assert mine.told["lr"] == SETTINGS.lr and mine.told["batch"] == SETTINGS.batch


def test_the_names_of_figures_suit_mlflow(make_model, toy, sampler, tmp_path):
    mine = Kept()
    mine.name = "mlflow"  # which refuses `@`
    run(make_model("mlp"), toy, sampler, SETTINGS, tmp_path, validation(), trackers=[mine])
    assert [row["val_hit_at_10"] for row in mine.rows if "val_hit_at_10" in row] == [
        row["val_hit@10"] for row in rows_of(tmp_path) if "val_hit@10" in row
    ]


def test_a_tracker_that_is_not_there_is_named_before_any_work(monkeypatch):
    check_trackers(("tensorboard",))
    with pytest.raises(TgqError, match="there is no tracker 'tensorbord'; did you mean 'tensorboard'"):
        check_trackers(("tensorbord",))
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(TgqError, match=r"pip install 'tgqformer\[tensorboard\]'"):
        check_trackers(("tensorboard",))
    with pytest.raises(TgqError, match="mlflow needs a package: pip install mlflow"):
        check_trackers(("mlflow",))
