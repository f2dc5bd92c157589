"""A recipe and training images in, the labels most likely wrong out: every image is judged by a network new to it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from jaxtyping import Float64
from rich.console import Console

from mien.data.dataset import TEST, TRAINING, Dataset, image_hashes
from mien.data.groups import stratified_groups
from mien.data.splits import Splits, split
from mien.emotions import Labels, Probabilities
from mien.errors import DataError, RecipeError, RunError
from mien.evaluation.doubts_page import Doubt
from mien.evaluation.metrics import check_probabilities
from mien.evaluation.views import look_at
from mien.files import replacing, write_json
from mien.training.progress import ShowProgress
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.trained import load_trained
from mien.training.trainer import images_an_epoch, train

CLAIM = "folds.json"  # in a folder of folds: whose they are

TrainFold = Callable[..., Probabilities]  # as train_and_predict: learns from train and validation, predicts test


def find_doubts(dataset: Dataset, probabilities: Probabilities) -> tuple[Doubt, ...]:
    """The labels that confident learning doubts (Northcutt, Jiang & Chuang 2021), the most doubtful first.

    probabilities (n, classes): out of fold, a row an image. A class's threshold is the mean probability that its own
    images give it. Of the classes whose threshold an image reaches, the likeliest is suggested, if it is likelier than
    the label. Ranked by the margin between the two. Raises DataError as `measure` does.
    """
    check_probabilities(dataset.labels, probabilities, dataset.classes)
    own = probabilities[np.arange(len(dataset)), dataset.labels]
    reached = np.where(probabilities >= thresholds(dataset.labels, probabilities), probabilities, 0)
    suggested, confidence = reached.argmax(axis=1), reached.max(axis=1)
    doubtful = np.flatnonzero(confidence > own)
    ranked = doubtful[np.argsort((own - confidence)[doubtful], kind="stable")]
    return tuple(
        Doubt(
            index=row,
            name=str(dataset.names[row]),
            labelled=dataset.classes[dataset.labels[row]],
            suggested=dataset.classes[suggested[row]],
            self_confidence=float(own[row]),
            suggested_confidence=float(confidence[row]),
        )
        for row in ranked.tolist()
    )


def thresholds(labels: Labels, probabilities: Probabilities) -> Float64[np.ndarray, " classes"]:
    """Each class's mean probability over the images labelled so; infinite for a class without images."""
    return np.array(
        [
            column[labels == label].mean(dtype=np.float64) if (labels == label).any() else np.inf
            for label, column in enumerate(probabilities.T)
        ]
    )


def train_and_predict(
    recipe: Recipe, splits: Splits, path: Path, *, watchers: tuple[keras.callbacks.Callback, ...] = ()
) -> Probabilities:
    """Predictions for `splits.test` by a network that learnt from the rest, in the run at `path`, new or stopped."""
    run = Run.open(path) if (path / "recipe.json").exists() else Run.create(path, recipe, split=splits.to_dict())
    if not run.finished:
        with run.alone():
            train(recipe, splits, run, watchers=watchers)
    return look_at(load_trained(run), "mirror").predict(splits.test.images)


def out_of_fold(
    recipe: Recipe,
    training: Dataset,
    *,
    folder: Path,
    folds: int = 5,
    console: Console | None = None,
    train_fold: TrainFold = train_and_predict,
) -> Probabilities:
    """Probabilities (n, classes) for each image of `training`, by a network that learnt from the other folds alone.

    Their runs lie in `folder`, and a call after an interrupt goes on there. console: where to show progress. Raises
    RecipeError where the recipe wants more than images and labels, RunError when the folder holds folds of another recipe,
    of other images or another number of them.
    """
    check_foldable(recipe)
    fold_of = deal_folds(training, folds=folds, seed=recipe.split_seed)
    claim(folder, recipe, training, folds)
    probabilities = np.empty((len(training), len(training.classes)), np.float32)
    for fold in range(folds):
        held_out = fold_of == fold
        path = folder / f"fold-{fold + 1}.npy"
        if not path.exists():
            parted = replace(training, usage=np.where(held_out, TEST, TRAINING))
            splits = split(parted, validation_share=recipe.validation_share, seed=recipe.split_seed)
            watchers = announce(console, recipe, splits, f"fold {fold + 1} of {folds}")
            try:
                with replacing(path) as draft:
                    np.save(draft, train_fold(recipe, splits, path.with_suffix(""), watchers=watchers))
            finally:
                for watcher in watchers:
                    watcher.stop()
        probabilities[held_out] = np.load(path)
    return probabilities


def check_foldable(recipe: Recipe) -> None:
    """Raise RecipeError unless `recipe` learns from images and labels alone, as each fold's network does."""
    for field, plain in (("targets", "labels"), ("curriculum", "none")):
        if (chosen := getattr(recipe, field)) != plain:
            raise RecipeError(
                f"{recipe.name} has {field}={chosen}; expected a recipe that learns from labels alone to be trained once "
                f"a fold, such as {field}={plain}"
            )


def announce(console: Console | None, recipe: Recipe, splits: Splits, what: str) -> tuple[ShowProgress, ...]:
    if console is None:
        return ()
    console.print(f"{what}: training {recipe.name} on {len(splits.train):,} faces", highlight=False)
    return (ShowProgress(console, epochs=recipe.epochs, images=images_an_epoch(recipe, splits.train)),)


def deal_folds(training: Dataset, *, folds: int, seed: int) -> Labels:
    """The fold of each image, 0 to below `folds`, stratified by class; images with equal pixels share one."""
    check_folds(folds)
    groups, chance = image_hashes(training.images), np.random.default_rng(seed)
    fold_of = np.full(len(training), folds - 1, np.int64)
    for fold in range(folds - 1):
        rest = np.flatnonzero(fold_of == folds - 1)
        dealt = stratified_groups(training.labels[rest], groups[rest], share=1 / (folds - fold), rng=chance)
        fold_of[rest[dealt]] = fold
    if (np.bincount(fold_of, minlength=folds) == 0).any():
        raise DataError(f"{len(training)} images cannot fill {folds} folds; expected more images, or fewer folds")
    return fold_of


def check_folds(folds: int) -> None:
    if folds < 2:
        raise RecipeError(f"folds is {folds}; expected a whole number from 2")


def claim(folder: Path, recipe: Recipe, training: Dataset, folds: int) -> None:
    """Say in `folder` whose folds it holds. Raises RunError where they are others'."""
    check_free(folder, recipe, training, folds)
    write_json(folder / CLAIM, claim_of(recipe, training, folds))


def check_free(folder: Path, recipe: Recipe, training: Dataset, folds: int) -> None:
    """Raise RunError where `folder` holds others' folds."""
    path = folder / CLAIM
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != claim_of(recipe, training, folds):
        raise RunError(f"{folder} holds folds of another recipe, number or data set; expected a new folder, or its own")


def claim_of(recipe: Recipe, training: Dataset, folds: int) -> dict[str, Any]:
    return {"folds": folds, "images_sha256": training.sha256, "recipe": recipe.to_dict()}
