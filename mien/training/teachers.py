"""Teachers in, what a student learns from them out: soft targets out of fold, or networks that look on as it learns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mien.data.dataset import Dataset
from mien.emotions import Probabilities
from mien.errors import RecipeError, RunError
from mien.files import hash_of, seen_from
from mien.inference.classifier import find_model, load, read_json, shipped_models
from mien.training.doubts import out_of_fold
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.taught import EXPORTED, Teacher, open_teacher


@dataclass(frozen=True)
class Teachers:
    """Recipes, each trained once a fold; their runs lie in `folder`, or in teachers/ of the student's run.

    In that run the folder is written as seen from it: the two may be moved together.

    Out of fold, since a network that has learned a wrong label by heart would teach it as if it were right.
    """

    recipes: tuple[Recipe, ...]
    folds: int = 4
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not self.recipes:
            raise RecipeError("no teacher came; expected recipes, such as: mien distill base base,seed=43")
        names = [folder_of(recipe) for recipe in self.recipes]
        if twice := [name for name in names if names.count(name) > 1]:
            raise RecipeError(f"two teachers are {twice[0]}; expected each to have another seed or name")

    def to_dict(self, student: Path) -> dict[str, Any]:
        """Plain JSON values for the student's run, which `from_dict` reads back."""
        return {
            "recipes": [recipe.to_dict() for recipe in self.recipes],
            "folds": self.folds,
            "folder": seen_from(student, self.folder or student / "teachers"),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], student: Path) -> "Teachers":
        recipes = tuple(Recipe.from_dict(values) for values in fields["recipes"])
        return cls(recipes, folds=fields["folds"], folder=student / fields["folder"])

    def teach(self, train_part: Dataset, *, console: Console) -> Probabilities:
        """The mean of what they say of each image, (n, classes): trained now, gone on with, or found in the folder."""
        assert self.folder is not None
        said = [
            out_of_fold(
                recipe,
                train_part,
                folder=self.folder / folder_of(recipe),
                folds=self.folds,
                console=console,
            )
            for recipe in self.recipes
        ]
        mean: Probabilities = np.mean(said, axis=0)
        return mean


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
        return {"models": {seen_from(student, model): describe_teacher(model) for model in self.models}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any], student: Path) -> "Tutors":
        return cls(tuple(student / model for model in fields["models"]))

    def check(self, split: dict[str, Any]) -> None:
        """Raise RunError unless they are finished, and learned from the images of a student's `split`."""
        for model in self.models:
            if learned_by(model) != split["train"]["sha256"]:
                raise RunError(
                    f"{model} learned from other images than the student is to: it may know those that judge it; "
                    "expected teachers of one split: train them with the same data, split_seed and validation_share"
                )

    def open(self, *, precision: str) -> tuple[Teacher, ...]:
        """Their networks, to be asked."""
        return tuple(open_teacher(model, precision=precision) for model in self.models)


def find_teacher(name: str) -> Path | None:
    """The finished run or the exported file that `name` is, or a file of that name that comes with mien; else None."""
    path = Path(name)
    if path.suffix == EXPORTED:
        ours = path.stem in shipped_models() and path == Path(path.name) and not path.exists()
        return find_model(path.stem) if ours else path
    return path if (path / "recipe.json").is_file() else None


def describe_teacher(model: Path) -> dict[str, Any]:
    """What a run or an exported file was when it taught: plain JSON values."""
    if model.suffix == EXPORTED:
        file = load(model)
        own = read_json(model, file.metadata, "hashes").get("teachers")
        facts = {model.name: file.sha256, "recipe": read_json(model, file.metadata, "recipe")}
    else:
        run = Run.open(model)
        own = run.split.get("teachers", {}).get("models")
        facts = {"model.keras": hash_of(run.model_path), "recipe": run.recipe.to_dict()}
    return facts | ({"teachers": own} if own else {})


def learned_by(model: Path) -> Any:
    """The hash of the images that a finished run, or an exported file's, has learned from."""
    if model.suffix == EXPORTED:
        return read_json(model, load(model).metadata, "hashes").get("train")
    run = Run.open(model)
    if not run.finished:
        raise RunError(f"{run.path} is not finished and cannot teach; finish it with: mien train --resume {run.path}")
    return run.split["train"]["sha256"]


def folder_of(recipe: Recipe) -> str:
    return f"{recipe.name}-{recipe.seed}"
