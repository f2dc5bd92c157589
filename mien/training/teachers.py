"""Recipes of teachers in, soft targets for a student out: what they say of images that they did not learn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mien.data.dataset import Dataset
from mien.emotions import Probabilities
from mien.errors import RecipeError
from mien.files import seen_from
from mien.training.doubts import check_foldable, check_folds, check_free, deal_folds, out_of_fold
from mien.training.recipe import Recipe


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
        for recipe in self.recipes:
            check_foldable(recipe)
        check_folds(self.folds)

    def check(self, train_part: Dataset) -> None:
        """Raise what would stop them from being trained on these images."""
        for recipe in self.recipes:
            recipe.check_classes(train_part.classes)
            deal_folds(train_part, folds=self.folds, seed=recipe.split_seed)
            if self.folder:
                check_free(self.folder / folder_of(recipe), recipe, train_part, self.folds)

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


def folder_of(recipe: Recipe) -> str:
    return f"{recipe.name}-{recipe.seed}"
