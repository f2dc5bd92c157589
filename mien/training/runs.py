"""Run: the folder that one training leaves behind. Every file is complete or absent, so kill -9 costs one epoch at most."""

import csv
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
from filelock import FileLock, Timeout

from mien.errors import RunError
from mien.files import replacing, write_json, write_text
from mien.machine import describe_machine
from mien.training.recipe import Recipe

Row = dict[str, float]  # one epoch: epoch, accuracy, loss, val_accuracy, val_loss, learning_rate, pace, seconds


@dataclass(frozen=True)
class Run:
    """One training's folder.

    recipe.json       every choice                    checkpoints/  the last and the best epoch, with optimizer
    environment.json  versions, hardware, commit      model.keras   the best epoch's network, once training ended
    split.json        where the data came from        report.*, predictions.npz  written by `mien evaluate`
    history.csv       a row an epoch                  tracking.json              what names the run in each tracker
    """

    path: Path

    @classmethod
    def create(cls, path: Path, recipe: Recipe, *, split: Mapping[str, Any]) -> "Run":
        """Start a folder at `path`, which must not exist or be empty. `split`: whence the images, and their hashes."""
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; expected a new folder: choose another --out")
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path} is not empty; expected a new folder: choose another --out, or --resume {path}")
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "split.json", split)
        write_json(path / "environment.json", describe_environment())
        write_json(path / "recipe.json", recipe.to_dict())  # last: a folder with a recipe is a whole run
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run at `path`."""
        if not (path / "recipe.json").is_file():
            raise RunError(f"{path} is no run; expected a folder with recipe.json, as `mien train` leaves it")
        return cls(path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training this run meanwhile; the lock goes with the process, however that ends.

        Raises RunError where another one trains it.
        """
        path = self.path / "checkpoints" / "training.lock"
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path, blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(f"{self.path} is being trained by another process; let it finish, or stop it") from error
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked ({error}); expected a drive that can, such as a local one"
            ) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.read_json("recipe.json"))

    def require(self, recipe: Recipe) -> None:
        """Raise a RunError unless this is a run of `recipe` as it is now."""
        if self.recipe != recipe:
            raise RunError(
                f"{self.path} is a run of what {recipe.name} was before it changed; expected none: move it away"
            )

    @property
    def split(self) -> dict[str, Any]:
        return self.read_json("split.json")

    @property
    def environment(self) -> dict[str, Any]:
        return self.read_json("environment.json")

    def read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self.path / name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} cannot be read ({error}); expected a file of `mien train`") from error

    @property
    def model_path(self) -> Path:
        return self.path / "model.keras"

    @property
    def finished(self) -> bool:
        return self.model_path.exists()

    def require_finished(self) -> None:
        """Raise a RunError unless there is a network to work with."""
        if not self.finished:
            raise RunError(
                f"{self.path} is not finished, after {len(self.history())} epochs; "
                f"finish it with: mien train --resume {self.path}"
            )

    def history(self) -> list[Row]:
        """One row an epoch so far."""
        path = self.path / "history.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def write_history(self, rows: list[Row]) -> None:
        names = list(rows[-1])  # a run may have begun before there was a figure
        lines = [",".join(names), *(",".join(f"{row.get(name, math.nan):.17g}" for name in names) for row in rows)]
        write_text(self.path / "history.csv", "\n".join(lines) + "\n")

    def save_epoch(self, model: keras.Model, row: Row) -> None:
        """Keep everything that training needs to go on after this epoch, then say in the history that it is kept."""
        rows = [*self.history(), row]
        checkpoint = self.checkpoint(len(rows))
        with replacing(checkpoint) as draft:
            model.save_weights(draft)
        if row["val_loss"] <= min(earlier["val_loss"] for earlier in rows):
            with replacing(self.best_checkpoint) as draft:
                shutil.copyfile(checkpoint, draft)
        self.write_history(rows)
        self.checkpoint(len(rows) - 1).unlink(missing_ok=True)

    def checkpoint(self, epochs: int) -> Path:
        """Weights and optimizer after `epochs` epochs."""
        return self.path / "checkpoints" / f"epoch-{epochs:04}.weights.h5"

    @property
    def best_checkpoint(self) -> Path:
        """Weights and optimizer of the epoch with the lowest validation loss."""
        return self.path / "checkpoints" / "best.weights.h5"

    def save_model(self, network: keras.Model) -> None:
        with replacing(self.model_path) as draft:
            network.save(draft)


def new_run_folder(root: Path, recipe: Recipe) -> Path:
    """A folder below `root`, made here, so that no other run gets it: 2026-11-22-baseline-42, then …-42-2."""
    name = f"{datetime.now(UTC):%Y-%m-%d}-{recipe.name}-{recipe.seed}"
    path, number = root / name, 1
    root.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            path = root / f"{name}-{number}"
        else:
            return path


def describe_environment() -> dict[str, Any]:
    """What a figure depends on besides its recipe: Keras' backend, and all that `describe_machine` tells."""
    return {"backend": keras.backend.backend(), **describe_machine()}
