"""A run in, its course shown in TensorBoard, Weights & Biases or MLflow: each an extra, each at work without a network."""

import os
import re
import time
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import keras
from PIL import Image

from mien.errors import RecipeError, RunError, extra
from mien.evaluation.report import Report
from mien.files import hash_of, write_json
from mien.training.runs import Row, Run

PROJECT = "mien"  # the W&B project and the MLflow experiment that runs are gathered in


class Tracker(ABC):
    """Where the course of a training is shown. Making one imports its package; MissingExtraError where there is none."""

    name: ClassVar[str]

    @abstractmethod
    def start(self, run: Run, identity: str | None) -> str:
        """Begin to show `run`, or go on with what `identity` names; returns what names it. Shows the recipe."""

    @abstractmethod
    def log_epoch(self, row: Row) -> None:
        """Show one row of the history."""

    @abstractmethod
    def log_figures(self, figures: Mapping[str, float]) -> None:
        """Show figures that belong to the whole run."""

    @abstractmethod
    def log_picture(self, name: str, path: Path) -> None:
        """Show a PNG file."""

    @abstractmethod
    def log_model(self, path: Path) -> None:
        """Keep the trained network, or where there is no place for files, what tells it from others."""

    @abstractmethod
    def finish(self) -> None:
        """Write out whatever is still under way, and say whether the run is finished."""


@final
class TensorBoard(Tracker):
    """Event files in the run's folder: `tensorboard --logdir runs` shows every run below runs/.

    Written by TensorBoard's own writer, not by Keras' callback: that one needs TensorFlow, whatever Keras computes with.
    """

    name = "tensorboard"

    def __init__(self) -> None:
        with extra("track"):
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.plugins.hparams.summary_v2 import hparams_pb
            from tensorboard.plugins.text.summary_v2 import text_pb
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        self.event, self.summary, self.value = event_pb2.Event, summary_pb2.Summary, summary_pb2.Summary.Value
        self.hparams_pb, self.text_pb, self.open_writer = hparams_pb, text_pb, EventFileWriter

    def start(self, run: Run, identity: str | None) -> str:
        self.run = run
        self.writer = self.open_writer(str(run.path / self.name))
        if identity is None:
            self.write(self.hparams_pb(run.recipe.to_dict()), step=0)
        return self.name

    def log_epoch(self, row: Row) -> None:
        self.write(self.scalars(without_epoch(row)), step=int(row["epoch"]))

    def log_figures(self, figures: Mapping[str, float]) -> None:
        self.write(self.scalars(figures), step=len(self.run.history()))

    def log_picture(self, name: str, path: Path) -> None:
        with Image.open(path) as picture:
            size = {"width": picture.width, "height": picture.height, "colorspace": len(picture.getbands())}
        image = self.summary.Image(encoded_image_string=path.read_bytes(), **size)
        self.write(self.summary(value=[self.value(tag=name, image=image)]), step=len(self.run.history()))

    def log_model(self, path: Path) -> None:
        digest = hash_of(path)
        text = f"{path.name}, {path.stat().st_size:,} bytes, SHA-256 {digest}"
        self.write(self.text_pb("model", text), step=len(self.run.history()))

    def finish(self) -> None:
        self.writer.close()

    def scalars(self, figures: Mapping[str, float]) -> Any:
        return self.summary(value=[self.value(tag=name, simple_value=value) for name, value in figures.items()])

    def write(self, summary: Any, *, step: int) -> None:
        self.writer.add_event(self.event(wall_time=time.time(), step=step, summary=summary))
        self.writer.flush()  # the writer's own two minutes are more than a killed training has


@final
class WeightsAndBiases(Tracker):
    """A W&B run, kept offline in the run's folder unless the user is logged in or WANDB_MODE says otherwise.

    Offline, each start leaves one more folder of the same run; `wandb sync` uploads them as one.
    """

    name = "wandb"

    def __init__(self) -> None:
        with extra("track"):
            import wandb
        self.wandb = wandb

    def start(self, run: Run, identity: str | None) -> str:
        self.run = run
        identity = identity or uuid.uuid4().hex[:8]
        self.session: Any = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity,
            name=run.path.name,
            config=run.recipe.to_dict(),
            dir=run.path,
            mode=self.choose_mode(),
            resume="allow",
            reinit="create_new",
            # A training may be killed: what it has shown must be on disk. Of a console, W&B would only catch a bar.
            settings=self.wandb.Settings(console="off", x_transaction_log_flush_interval=0.1),
        )
        return identity

    def choose_mode(self) -> Any:
        logged_in = "WANDB_MODE" in os.environ or self.wandb.login(prompt=False, verify=False)
        return os.environ.get("WANDB_MODE", "online" if logged_in else "offline")

    def log_epoch(self, row: Row) -> None:
        self.session.log(without_epoch(row), step=int(row["epoch"]), commit=True)  # else it waits for the next epoch

    def log_figures(self, figures: Mapping[str, float]) -> None:
        self.session.summary.update(dict(figures))

    def log_picture(self, name: str, path: Path) -> None:
        # Offline, a run that goes on counts its steps from 0 again.
        step = max(self.session.step, len(self.run.history()))
        self.session.log({name: self.wandb.Image(path)}, step=step)

    def log_model(self, path: Path) -> None:
        artifact = self.wandb.Artifact(f"{PROJECT}-{self.session.id}", type="model")
        # "immutable": W&B reads the run's own file when it uploads, instead of a copy in the user's home.
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        self.session.log_artifact(artifact)

    def finish(self) -> None:
        self.session.finish(exit_code=0 if self.run.finished else 1)


@final
class MLflow(Tracker):
    """An MLflow run: on the server or database that MLFLOW_TRACKING_URI names, else on SQLite in the run's folder.

    `mlflow ui --backend-store-uri sqlite:///RUN/mlflow/mlflow.db` shows the latter.
    """

    name = "mlflow"

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with extra("track"):
            import alembic  # noqa: F401  # MLflow's SQLite needs both, and mlflow-skinny does not bring them
            import sqlalchemy  # noqa: F401
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
        self.open_client, self.metric, self.param = MlflowClient, Metric, Param

    def start(self, run: Run, identity: str | None) -> str:
        self.run = run
        folder = (run.path / self.name).resolve()
        server = os.environ.get("MLFLOW_TRACKING_URI")
        if not server:
            folder.mkdir(exist_ok=True)
        self.client: Any = self.open_client(server or f"sqlite:///{folder / 'mlflow.db'}")
        self.identity: str = identity or self.create(artifacts=None if server else (folder / "artifacts").as_uri())
        self.client.update_run(self.identity, status="RUNNING")
        return self.identity

    def create(self, *, artifacts: str | None) -> str:
        known = self.client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self.client.create_experiment(PROJECT, artifacts)
        created: str = self.client.create_run(experiment, run_name=self.run.path.name).info.run_id
        self.client.log_batch(
            created, params=[self.param(name, str(value)) for name, value in self.run.recipe.to_dict().items()]
        )
        return created

    def log_epoch(self, row: Row) -> None:
        self.log(without_epoch(row), step=int(row["epoch"]))

    def log_figures(self, figures: Mapping[str, float]) -> None:
        self.log(figures, step=len(self.run.history()))

    def log(self, figures: Mapping[str, float], *, step: int) -> None:
        now = int(1000 * time.time())  # milliseconds
        metrics = [self.metric(allowed(name), value, now, step) for name, value in figures.items()]
        self.client.log_batch(self.identity, metrics=metrics)

    def log_picture(self, name: str, path: Path) -> None:
        self.client.log_artifact(self.identity, str(path), name)

    def log_model(self, path: Path) -> None:
        self.client.log_artifact(self.identity, str(path), "model")

    def finish(self) -> None:
        self.client.set_terminated(self.identity, "FINISHED" if self.run.finished else "KILLED")


TRACKERS: Mapping[str, type[Tracker]] = {kind.name: kind for kind in (TensorBoard, WeightsAndBiases, MLflow)}


@dataclass(frozen=True)
class Mark:
    """How far one tracker has got with a run: what names the run there, epochs shown, and whether it has the model."""

    identity: str
    epochs: int = 0
    model: bool = False


def trackers(names: str) -> tuple[Tracker, ...]:
    """The trackers in a text such as "tensorboard,mlflow"; RecipeError for one that there is not."""
    wanted = dict.fromkeys(name for part in names.split(",") if (name := part.strip()))
    for name in wanted:
        if name not in TRACKERS:
            raise RecipeError(f"there is no tracker {name!r}; expected some of {', '.join(TRACKERS)}, commas between")
    return tuple(TRACKERS[name]() for name in wanted)


def trackers_of(run: Run) -> tuple[Tracker, ...]:
    """The trackers that have shown `run` before."""
    return trackers(",".join(read_marks(run)))


@contextmanager
def tracking(run: Run, trackers: tuple[Tracker, ...]) -> Iterator[tuple["TrackEpochs", ...]]:
    """Show `run` in `trackers` while the block trains or evaluates it; yields the watchers that `train` takes.

    What names the run in each tracker is kept in the run's tracking.json, so a later block goes on with the same ones.
    """
    with ExitStack() as stack:
        watchers = tuple(TrackEpochs(tracker, run) for tracker in trackers)
        for watcher in watchers:
            watcher.start()
            stack.callback(end, watcher.tracker)
        yield watchers
        for watcher in watchers:
            watcher.finish()


def end(tracker: Tracker) -> None:
    with forgiving(tracker, "the end"):
        tracker.finish()


def track_report(run: Run, report: Report, trackers: tuple[Tracker, ...]) -> None:
    """Show a report's figures and confusion matrix in `trackers`, once `report.save(run.path)` has drawn it."""
    with tracking(run, trackers):
        for tracker in trackers:
            with forgiving(tracker, "the report"):
                tracker.log_figures(figures_of(report))
                tracker.log_picture("confusion", run.path / "confusion.png")


@contextmanager
def forgiving(tracker: Tracker, what: str) -> Iterator[None]:
    """Whatever ails a tracker must not cost a training: it is told next time."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        warnings.warn(f"{tracker.name} was not told of {what}: {error}", stacklevel=3)


class TrackEpochs(keras.callbacks.Callback):
    """Shows a tracker the epochs that the run keeps and the tracker has not seen: a resumed training repeats none."""

    def __init__(self, tracker: Tracker, run: Run) -> None:
        super().__init__()
        self.tracker = tracker
        self.run = run

    def start(self) -> None:
        known = read_marks(self.run).get(self.tracker.name)
        try:
            identity = self.tracker.start(self.run, known.identity if known else None)
        except Exception as error:
            raise RunError(
                f"{self.tracker.name} cannot show {self.run.path} ({str(error).partition(chr(10))[0]}); "
                "expected a tracker within reach: mend it, or leave it out of --track"
            ) from error
        write_mark(self.run, self.tracker, known or Mark(identity))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with forgiving(self.tracker, f"epoch {epoch + 1}"):
            self.catch_up()

    def finish(self) -> None:
        with forgiving(self.tracker, "all epochs and the model"):
            self.catch_up()
            self.keep_model()

    def catch_up(self) -> None:
        mark = read_marks(self.run)[self.tracker.name]
        for shown, row in enumerate(self.run.history()[mark.epochs :], start=mark.epochs + 1):
            self.tracker.log_epoch(row)
            write_mark(self.run, self.tracker, replace(mark, epochs=shown))

    def keep_model(self) -> None:
        mark = read_marks(self.run)[self.tracker.name]
        if self.run.finished and not mark.model:
            self.tracker.log_model(self.run.model_path)
            write_mark(self.run, self.tracker, replace(mark, model=True))


def read_marks(run: Run) -> dict[str, Mark]:
    """The marks of all trackers that have shown `run`, by name."""
    if not (run.path / "tracking.json").exists():
        return {}
    return {name: Mark(**mark) for name, mark in run.read_json("tracking.json").items()}


def write_mark(run: Run, tracker: Tracker, mark: Mark) -> None:
    marks = {**read_marks(run), tracker.name: mark}
    write_json(run.path / "tracking.json", {name: asdict(one) for name, one in marks.items()})


def figures_of(report: Report) -> dict[str, float]:
    """The figures of a report by "protocol/figure": fractions 0..1, nll in nats."""
    figures = report.figures
    values = {
        "accuracy": figures.accuracy.value,
        "macro_f1": figures.macro_f1.value,
        "balanced_accuracy": figures.balanced_accuracy,
        "ece": figures.ece,
        "nll": figures.nll,
        **{f"recall {one.name}": one.recall.value for one in figures.per_class if one.recall},
    }
    return {f"{report.protocol}/{name}": value for name, value in values.items()}


def without_epoch(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch"}


def allowed(name: str) -> str:
    """`name` with every character that MLflow refuses replaced."""
    return re.sub(r"[^\w./: -]", "_", name)
