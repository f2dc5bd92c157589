"""Finished runs and exported files in, networks that look on as a student learns out."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mien.data.dataset import Dataset
from mien.data.splits import Splits, find_leaks, split_as
from mien.emotions import Probabilities
from mien.errors import RecipeError, RunError
from mien.files import hash_of, seen_from
from mien.inference.classifier import Classifier, find_model, load, read_json, shipped_models
from mien.machine import cores
from mien.models import build_network
from mien.training.runs import Run
from mien.training.taught import Teacher
from mien.training.trained import load_trained

EXPORTED = ".onnx"  # the suffix of a file that `mien export` wrote; a run is a folder


@dataclass(frozen=True)
class Tutors:
    """Finished runs, and files that `mien export` wrote, that look at each image as it is changed and mixed for the
    student, and say what they see.

    Each view is a new one, so that the student may follow them far (Beyer et al. 2022). But they learned these images
    themselves: what they have by heart may come through, the more so the less the views differ from what they saw.
    """

    models: tuple[Path, ...]

    def __post_init__(self) -> None:
        if not self.models:
            raise RecipeError("no teacher came; expected folders of finished runs, or exported files")
        if len({model.resolve() for model in self.models}) < len(self.models):
            raise RecipeError(f"a teacher came twice: {', '.join(map(str, self.models))}; expected different ones")

    def to_dict(self, student: Path) -> dict[str, Any]:
        """As in `Teachers`: each as seen from the student's run, its hash, its recipe, and its own teachers."""
        return {"models": {seen_from(student, model.path): model.describe() for model in self.opened}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any], student: Path) -> "Tutors":
        return cls(tuple(student / model for model in fields["models"]))

    def check(self, dataset: Dataset, student: Splits) -> None:
        """Raise RunError unless they are finished, and none has learned from images that judge the student.

        They may have learned from fewer images of the data set than the student is to.
        """
        for model in self.opened:
            if model.learned_from() == student.train.sha256:
                continue
            known = split_as(dataset, model.describe()["recipe"]).train
            if known.sha256 != model.learned_from() or len(find_leaks(known, student.validation)):
                raise RunError(
                    f"{model.path} learned from other images than the student is to: it may know those that judge it; "
                    "expected teachers that held those back: train them with the same data and split_seed, and at least "
                    "the student's validation_share"
                )

    def open(self, *, precision: str) -> tuple[Teacher, ...]:
        """Their networks, to be asked."""
        return tuple(model.open(precision=precision) for model in self.opened)

    @cached_property
    def opened(self) -> "tuple[FinishedRun | ExportedFile, ...]":
        return tuple(ExportedFile(path) if path.suffix == EXPORTED else FinishedRun(path) for path in self.models)


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, whose network may teach."""

    path: Path

    @cached_property
    def run(self) -> Run:
        run = Run.open(self.path)
        run.require_finished()
        return run

    def describe(self) -> dict[str, Any]:
        """What it was when it taught: plain JSON values."""
        facts = {"model.keras": hash_of(self.run.model_path), "recipe": self.run.recipe.to_dict()}
        return with_teachers(facts, self.run.split.get("teachers", {}).get("models"))

    def learned_from(self) -> str:
        """The hash of its training images."""
        sha256: str = self.run.split["train"]["sha256"]
        return sha256

    def open(self, *, precision: str) -> Teacher:
        """Its network, computing in `precision`."""
        trained, model = load_trained(self.run), self.run.recipe.model
        network = build_network(model, classes=len(trained.classes), precision=precision)
        try:
            network.set_weights(trained.network.get_weights())
        except ValueError as error:
            raise RunError(
                f"{self.path} was trained when {model} was another network; expected a run of what it is now"
            ) from error
        network.trainable = False
        teacher: Teacher = network
        return teacher


@dataclass(frozen=True)
class ExportedFile:
    """A file that `mien export` wrote, or that comes with mien; it may teach in TensorFlow alone."""

    path: Path

    @cached_property
    def classifier(self) -> Classifier:
        return load(self.path, threads=cores())

    def describe(self) -> dict[str, Any]:
        """What it was when it taught: plain JSON values."""
        facts = {self.path.name: self.classifier.sha256, "recipe": self.metadata("recipe")}
        return with_teachers(facts, self.metadata("hashes").get("teachers"))

    def learned_from(self) -> str | None:
        """The hash of its training images; None where the file does not say."""
        sha256: str | None = self.metadata("hashes").get("train")
        return sha256

    def metadata(self, key: str) -> Any:
        return read_json(self.path, self.classifier.metadata, key)

    def open(self, *, precision: str) -> Teacher:
        """ONNX Runtime, asked from within TensorFlow's graph, in the file's own precision."""
        if keras.backend.backend() != "tensorflow":
            raise RunError(
                f"Keras computes with {keras.backend.backend()}, where {self.path.name} cannot be asked; expected "
                "tensorflow: set KERAS_BACKEND to it, or let runs teach"
            )
        return self.ask

    def ask(self, images: Any, training: bool = False) -> Any:
        import tensorflow

        said = tensorflow.numpy_function(self.read, [keras.ops.cast(images, "float32")], "float32", stateful=False)
        said.set_shape((images.shape[0], len(self.classifier.classes)))
        return said

    def read(self, images: np.ndarray) -> Probabilities:
        """Changed and mixed images are no whole numbers; the file takes nothing else."""
        return self.classifier.run(np.rint(images).clip(0, 255).astype(np.uint8))


def with_teachers(facts: dict[str, Any], teachers: Any) -> dict[str, Any]:
    """What is known of a teacher, and its own teachers where it had any."""
    return {**facts, "teachers": teachers} if teachers else facts


def find_teacher(name: str) -> Path | None:
    """The finished run or the exported file that `name` is, or a file of that name that comes with mien; else None."""
    path = Path(name)
    if path.suffix == EXPORTED:
        ours = path.stem in shipped_models() and path == Path(path.name) and not path.exists()
        return find_model(path.stem) if ours else path
    return path if (path / "recipe.json").is_file() else None
