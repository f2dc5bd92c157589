import dataclasses
import hashlib
import json
import os
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from mien.data.dataset import Dataset
from mien.errors import MissingExtraError, RecipeError, RunError
from mien.evaluation.report import build_report
from mien.training import trackers as tracking_room
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.trackers import (
    TRACKERS,
    Mark,
    TrackEpochs,
    Tracker,
    read_marks,
    track_report,
    trackers,
    trackers_of,
    tracking,
)

# SQLAlchemy deprecates what MLflow asks of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
PACKAGES = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "mlflow": ["mlflow", "sqlalchemy", "alembic"]}
RECIPE = Recipe(name="small", model="compact", epochs=4, zoom=0.125)
MODEL = b"weights " * 100
LOSSES = [1.5, 1.25, 1.0, 0.75]


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path, monkeypatch):
    """What a user has set up for W&B and MLflow stays out of the tests, and the tests out of the user's home."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture(params=TRACKERS)
def tracker(request):
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mien[track]'")
    (one,) = trackers(request.param)
    return one


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "a rün", RECIPE, split={"data": "drawn"})


def learn(run: Run, *, epochs: int) -> None:
    """Let the run's history have that many epochs, as a training would leave them."""
    rows = zip(range(1, epochs + 1), LOSSES, strict=False)
    run.write_history([{"epoch": float(epoch), "loss": loss, "val_loss": 2 * loss} for epoch, loss in rows])


def complete(run: Run) -> None:
    learn(run, epochs=4)
    run.model_path.write_bytes(MODEL)


def make_report():
    labels = np.arange(70) % 7
    probabilities = np.full((70, 7), 0.05, np.float32)
    probabilities[np.arange(70), np.where(np.arange(70) < 35, labels, 0)] = 0.7
    images = np.zeros((70, 48, 48, 1), np.uint8)
    names = np.array([f"test/im{index}.png" for index in range(70)])
    dataset = Dataset(images, labels, names, np.full(70, "Test"))
    return build_report(dataset, probabilities, model="small", data="drawn", protocol="kaggle", provenance={})


# What came of it is read back by each package's own reader, and never by the code that wrote it.


def read_tensorboard(run: Run) -> dict:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    hparams = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    chosen = hparams.session_start_info.hparams
    return {
        "history": {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]},
        "recipe": {name: getattr(value, value.WhichOneof("kind")) for name, value in chosen.items()},
        "pictures": {tag: events.Images(tag)[-1].encoded_image_string for tag in tags["images"]},
        "model": [event.tensor_proto.string_val[0].decode() for event in events.Tensors("model")]
        if "model" in tags["tensors"]
        else [],
    }


def read_wandb(run: Run) -> dict:
    found: dict = {"history": {}, "recipe": {}, "pictures": {}, "model": [], "ids": set(), "exits": []}
    for path in sorted(run.path.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(path):
            read_record(record, path.parent, found)
    return found


def records(path: Path):
    """The protocol buffers in a .wandb file: LevelDB's log format after a 7-byte header, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + length > len(content):  # still being written
            return
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a record in one piece, or the last piece of one
            yield Record.FromString(whole)
            whole = b""


def read_record(record, folder: Path, found: dict) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            found["ids"].add(record.run.run_id)
            found["recipe"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        case "history":
            row = {item.nested_key[-1]: json.loads(item.value_json) for item in record.history.item}
            for name in (item.nested_key[0] for item in record.history.item if item.nested_key[-1] == "_type"):
                found["pictures"][name] = (folder / "files" / row["path"]).read_bytes()
            for name in row.keys() & {"loss", "val_loss", "epoch"}:
                found["history"].setdefault(name, []).append((row["_step"], row[name]))
        case "summary":
            values = {(item.key or item.nested_key[-1]): json.loads(item.value_json) for item in record.summary.update}
            found.setdefault("summary", {}).update(values)
        case "artifact":
            found["model"].append({Path(entry.local_path) for entry in record.artifact.manifest.contents})
        case "exit":
            found["exits"].append(record.exit.exit_code)


def read_mlflow(run: Run) -> dict:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.path / 'mlflow' / 'mlflow.db'}")
    (experiment,) = (one for one in client.search_experiments() if one.name == "mien")
    (found,) = client.search_runs([experiment.experiment_id])
    identity, folder = found.info.run_id, run.path / "mlflow" / "artifacts"
    histories = {name: client.get_metric_history(identity, name) for name in found.data.metrics}
    files = {path.parent.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    return {
        "history": {name: [(one.step, one.value) for one in history] for name, history in histories.items()},
        "recipe": found.data.params,
        "pictures": {name: content for name, content in files.items() if name != "model"},
        "model": [files["model"]] if "model" in files else [],
        "ids": {identity},
        "status": found.info.status,
    }


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def soon(holds) -> bool:
    """Whether that holds within ten seconds: W&B writes from a process of its own."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with suppress(KeyError):
            if holds():
                return True
        time.sleep(0.05)
    return False


def read_finished(name: str, run: Run, *, starts: int) -> dict:
    """What a tracker holds of a run that it was started for and has finished with that often."""
    if name == "wandb":
        assert soon(lambda: len(read_wandb(run)["exits"]) == starts)
    return READERS[name](run)


def test_everything_reaches_a_tracker(tracker, run, tmp_path):
    with tracking(run, (tracker,)):
        complete(run)
    report = make_report()
    report.save(run.path)
    track_report(run, report, trackers_of(run))

    found = read_finished(tracker.name, run, starts=2)
    assert found["history"]["loss"] == list(enumerate(LOSSES, start=1))
    assert found["history"]["val_loss"] == [(step, 2 * loss) for step, loss in enumerate(LOSSES, start=1)]
    assert "epoch" not in found["history"]
    assert {name: str(value) for name, value in found["recipe"].items() if name in ("model", "zoom")} == {
        "model": "compact",
        "zoom": "0.125",
    }
    assert set(RECIPE.to_dict()) <= set(found["recipe"])
    figures = found.get("summary") or {name: points[-1][1] for name, points in found["history"].items()}
    assert figures["kaggle/accuracy"] == pytest.approx(report.figures.accuracy.value)
    assert figures["kaggle/macro_f1"] == pytest.approx(report.figures.macro_f1.value)
    assert figures["kaggle/recall disgusted"] == pytest.approx(0.5)
    assert found["pictures"]["confusion"] == (run.path / "confusion.png").read_bytes()
    expect_model(tracker.name, run, found["model"])
    # Nothing but the run's folder is written, save W&B's own log of its service.
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".log"] == []


def expect_model(name: str, run: Run, models: list) -> None:
    """The model came once: its file, the file's place, or what tells it from others."""
    (model,) = models
    match name:
        case "tensorboard":
            assert model.startswith("model.keras, 800 bytes")
            assert hashlib.sha256(MODEL).hexdigest() in model
        case "wandb":
            assert model == {run.model_path}
        case "mlflow":
            assert model == MODEL


def test_a_resumed_training_goes_on_where_the_tracker_is(tracker, run):
    def killed():
        with tracking(run, (tracker,)) as (watcher,):
            learn(run, epochs=1)
            watcher.on_epoch_end(0)
            assert soon(lambda: READERS[tracker.name](run)["history"]["loss"] == [(1, LOSSES[0])])  # kill -9 keeps it
            learn(run, epochs=2)  # kept by the run, and killed before the tracker hears of it
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    before = read_marks(run)[tracker.name]
    assert before == Mark(before.identity, epochs=1)
    with tracking(Run.open(run.path), trackers_of(run)) as (watcher,):
        learn(run, epochs=3)
        watcher.on_epoch_end(2)
        complete(run)

    found = read_finished(tracker.name, run, starts=2)
    assert found["history"]["loss"] == list(enumerate(LOSSES, start=1))
    assert read_marks(run)[tracker.name] == Mark(before.identity, epochs=4, model=True)
    assert found.get("ids", {before.identity}) == {before.identity}
    assert found.get("exits", [1, 0]) == [1, 0]
    assert found.get("status", "FINISHED") == "FINISHED"


def test_a_real_training_is_followed(small, splits, new_run):
    from mien.training.trainer import train

    pytest.importorskip("tensorboard")
    recipe = dataclasses.replace(small, epochs=2)
    run = new_run(recipe)
    with tracking(run, trackers("tensorboard")) as watchers:
        train(recipe, splits, run, watchers=watchers)
    shown = read_tensorboard(run)["history"]
    assert set(shown) == {*run.history()[0]} - {"epoch"}
    for name, points in shown.items():
        assert points == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in run.history()]


class Faint(Tracker):
    """A tracker that is out of reach every other time."""

    name = "faint"

    def __init__(self):
        self.calls, self.shown = 0, []

    def start(self, run, identity):
        return identity or "1"

    def finish(self):
        pass

    log_figures = log_picture = log_model = finish

    def log_epoch(self, row):
        self.calls += 1
        if self.calls % 2:
            raise ConnectionError("no route")
        self.shown.append(row["epoch"])


def test_a_tracker_out_of_reach_costs_no_training_and_hears_of_all_epochs_later(run):
    watcher = TrackEpochs(Faint(), run)
    watcher.start()
    learn(run, epochs=1)
    with pytest.warns(UserWarning, match="faint was not told of epoch 1: no route"):
        watcher.on_epoch_end(0)
    watcher.on_epoch_end(1)
    assert watcher.tracker.shown == [1]
    learn(run, epochs=3)
    for _ in range(2):
        with pytest.warns(UserWarning, match="no route"):
            watcher.on_epoch_end(2)
    watcher.on_epoch_end(2)
    assert watcher.tracker.shown == [1, 2, 3]


def test_a_tracker_that_fails_in_the_end_costs_no_training(run):
    class Gone(Faint):
        def finish(self):
            raise ConnectionError("no route")

    with pytest.warns(UserWarning, match="faint was not told of the end: no route"), tracking(run, (Gone(),)):
        pass


def test_a_tracker_that_cannot_start_is_one_line(run):
    class Absent(Faint):
        def start(self, run, identity):
            raise OSError("refused\nby a server")

    with pytest.raises(RunError, match=r"^faint cannot show .* \(refused\); expected .*--track$"):
        TrackEpochs(Absent(), run).start()


@pytest.mark.parametrize(
    ("environment", "logged_in", "mode"),
    [({}, False, "offline"), ({}, True, "online"), ({"WANDB_MODE": "disabled"}, True, "disabled")],
)
def test_wandb_is_offline_unless_the_user_wants_it_otherwise(monkeypatch, environment, logged_in, mode):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(wandb, "login", lambda *, prompt, verify: logged_in)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trackers("wandb")[0].choose_mode() == mode


def test_mlflow_says_nothing_to_its_makers(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    trackers("mlflow")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_uses_the_database_that_the_user_names(run, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    (tracker,) = trackers("mlflow")
    tracker.open_client = Mock()
    tracker.start(run, "known")
    tracker.open_client.assert_called_once_with("http://localhost:5000")
    assert not (run.path / "mlflow").exists()


def test_a_class_name_that_mlflow_refuses_is_spelled_otherwise():
    assert tracking_room.allowed("kaggle/recall $5 & más") == "kaggle/recall _5 _ más"


def test_trackers_are_chosen_by_name(monkeypatch):
    monkeypatch.setattr(tracking_room, "TRACKERS", {"wandb": Faint, "mlflow": Faint})
    assert len(trackers("wandb, mlflow,wandb,")) == 2
    assert trackers("") == ()
    with pytest.raises(RecipeError, match="no tracker 'tensorbord'; expected some of wandb, mlflow"):
        trackers("wandb,tensorbord")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_names_its_cure(name, monkeypatch):
    package = PACKAGES[name][0]
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[track\]'"):
        trackers(name)


def test_a_picture_of_any_depth_is_shown(run, tmp_path):
    pytest.importorskip("tensorboard")
    with tracking(run, trackers("tensorboard")) as (watcher,):
        for mode, bands in (("L", 1), ("RGB", 3), ("RGBA", 4)):
            Image.new(mode, (5, 4)).save(tmp_path / f"{mode}.png")
            watcher.tracker.log_picture(f"depth {bands}", tmp_path / f"{mode}.png")
    assert set(read_tensorboard(run)["pictures"]) == {"depth 1", "depth 3", "depth 4"}


def test_what_a_tracker_is_not_told_in_the_end_costs_no_training(run):
    learn(run, epochs=1)
    told_nothing = pytest.warns(UserWarning, match="faint was not told of all epochs and the model: no route")
    with told_nothing, tracking(run, (Faint(),)) as watchers:
        assert len(watchers) == 1
