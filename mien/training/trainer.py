"""A recipe, splits and a Run in; a trained network out, with everything about it in the run's folder."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32

from mien.data.balance import class_weights, find_originals, original_names, oversample, refuse_straddling_copies
from mien.data.dataset import Dataset
from mien.data.splits import Splits
from mien.emotions import Probabilities
from mien.errors import DataError, RunError
from mien.models import build_network
from mien.models.pretrained import freeze, unfreeze
from mien.training.augment import Strength, build_augmenter
from mien.training.batches import Batches, InOrder, Order, inputs
from mien.training.curriculum import Difficulties, easy_first, pace
from mien.training.losses import build_loss
from mien.training.muon import Muon
from mien.training.recipe import Recipe
from mien.training.runs import Row, Run
from mien.training.taught import Taught, Teacher

SoftTargets = Float32[np.ndarray, "originals classes"]  # rows sum to one, or to zero


@dataclass(frozen=True)
class Phase:
    """Epochs `first` to before `last`, from 0, that train the same weights; `frozen`: all but a pretrained backbone."""

    first: int
    last: int
    learning_rate: float
    frozen: bool = False


def train(
    recipe: Recipe,
    splits: Splits,
    run: Run,
    *,
    difficulties: Difficulties | None = None,
    soft_targets: SoftTargets | None = None,
    teachers: tuple[Teacher, ...] = (),
    watchers: tuple[keras.callbacks.Callback, ...] = (),
) -> Run:
    """Train `recipe` on `splits.train`, watch `splits.validation`, keep the epoch with the lowest validation loss.

    Goes on where `run` stopped, if it has epochs already. difficulties: one for each image of `splits.train`, where the
    recipe has a curriculum. soft_targets: shares of the classes for each of them, where it learns from votes; a row of
    zeros means that nobody voted, and the label counts. teachers: networks whose word on each changed image counts, where
    it learns from theirs. `watchers` see the training and change nothing.
    Raises RunError when the data differ from those the run began with, or when the loss becomes NaN. Where other processes
    might train the same run, hold `run.alone()` around it.
    """
    check_data(splits, run)
    keras.utils.set_random_seed(recipe.seed)
    learning = oversampled(recipe, splits)
    order = order_of(recipe, splits.train, learning, difficulties)
    targets = learning_targets(recipe, splits.train, learning, soft_targets)
    if recipe.targets == "teacher_views" and not teachers:
        raise RunError(f"targets is {recipe.targets!r}, but no teachers were given; expected {WHENCE[recipe.targets]}")
    taught = Taught(teachers, share=recipe.teacher_share, mirror=recipe.flip) if teachers else None
    model = wrap(recipe, classes=len(learning.classes), taught=taught)
    for phase in phases_of(recipe):
        if is_over(phase, recipe, run.history()):
            continue
        prepare(model, recipe, phase, run, images=len(learning))
        fit(model, recipe, phase, learning, splits.validation, run, targets=targets, order=order, watchers=watchers)
    keep_best(recipe, run, classes=len(learning.classes))
    return run


def oversampled(recipe: Recipe, splits: Splits) -> Dataset:
    """The images to learn from: those of `splits.train`, with copies where the recipe asks for them.

    Validation is split before: copies must never straddle the two.
    """
    refuse_straddling_copies(splits)
    if not recipe.oversample:
        return splits.train
    target = oversampling_target(recipe, splits.train)
    return oversample(splits.train, class_name=recipe.oversample, target=target, seed=recipe.seed)


def oversampling_target(recipe: Recipe, original: Dataset) -> int:
    """How many images the oversampled class is to have, once it is sure that it can."""
    target = round(recipe.oversample_to * (1 - recipe.validation_share))
    try:
        find_originals(original, class_name=recipe.oversample, target=target)
    except DataError as error:
        raise DataError(f"oversample_to={recipe.oversample_to}, scaled to the split: {error}") from error
    return target


def images_an_epoch(recipe: Recipe, original: Dataset) -> int:
    """How many images there are to learn from, copies included."""
    if not recipe.oversample:
        return len(original)
    copied = int(original.counts()[original.classes.index(recipe.oversample)])
    return len(original) - copied + oversampling_target(recipe, original)


def order_of(recipe: Recipe, original: Dataset, learning: Dataset, difficulties: Difficulties | None) -> Order | None:
    """The curriculum's order of `learning`; a copy is as hard as its original. None where there is no curriculum."""
    if recipe.curriculum == "none":
        return None
    if difficulties is None:
        raise RunError(f"curriculum is {recipe.curriculum!r}, but no difficulties were given; train with start_run()")
    difficulty_of = dict(zip(original.names.tolist(), difficulties.tolist(), strict=True))
    hardness = np.array([difficulty_of[name] for name in original_names(learning).tolist()])
    return easy_first(hardness, start=recipe.curriculum_start, epochs=recipe.curriculum_epochs)


def wrap(recipe: Recipe, *, classes: int, taught: Taught | None = None) -> keras.Model:
    """The network behind its augmenter, and its teachers behind it. They stay apart: what is saved has no random layers.

    A random layer inside a saved network would run, and shift batch statistics, whenever the network is called
    without `training=False`, ONNX export included.
    """
    network = build_network(recipe.model, classes=classes, weights=recipe.weights, precision=recipe.precision)
    strength = Strength(recipe.flip, recipe.rotation, recipe.zoom, recipe.shift)
    stronger = strength.times(recipe.stronger_factor) if recipe.stronger_classes else None
    augmenter = build_augmenter(
        strength,
        stronger=stronger,
        one_warp=recipe.one_warp,
        erasing=recipe.erasing,
        mixup=recipe.mixup > 0,
        seed=recipe.seed,
    )
    said = network(augmenter.output)
    if taught:
        said = taught(said, augmenter.output)
    return keras.Model(augmenter.input, said, name="training")


def network_of(model: keras.Model) -> keras.Model:
    """The network inside a model of `wrap`."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.Model))


def phases_of(recipe: Recipe) -> tuple[Phase, ...]:
    if not recipe.frozen_epochs:
        return (Phase(0, recipe.epochs, recipe.learning_rate),)
    frozen = min(recipe.frozen_epochs, recipe.epochs)
    return (
        Phase(0, frozen, recipe.learning_rate, frozen=True),
        Phase(frozen, recipe.epochs, recipe.fine_tuning_rate),
    )


def is_over(phase: Phase, recipe: Recipe, history: list[Row]) -> bool:
    """Whether the history already reaches where EarlyStopping or the last epoch ends the phase."""
    if recipe.schedule == "cosine" or phase.frozen:
        return len(history) >= phase.last
    losses = [row["val_loss"] for row in history[phase.first : phase.last]]
    if not losses:
        return phase.first == phase.last
    return len(history) >= phase.last or len(losses) - 1 - int(np.argmin(losses)) >= recipe.stop_patience


def prepare(model: keras.Model, recipe: Recipe, phase: Phase, run: Run, *, images: int) -> None:
    """Compile for `phase`, with the weights, and the optimizer if it is the phase's own, of the last finished epoch."""
    done = len(run.history())
    if done and done == phase.first:
        model.load_weights(run.checkpoint(done))
    if recipe.frozen_epochs:
        (freeze if phase.frozen else unfreeze)(network_of(model))
    compile_for(model, recipe, learning_rate=phase.learning_rate, images=images)
    if done > phase.first:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.checkpoint(done))


def compile_for(model: keras.Model, recipe: Recipe, *, learning_rate: float, images: int = 1) -> None:
    """Ready to be trained on `images` images an epoch, which a cosine schedule needs to know."""
    rate = learning_rate if recipe.schedule == "plateau" else cosine(recipe, learning_rate, images=images)
    optimizer = build_optimizer(recipe, rate)
    model.compile(
        # Keras would scale the loss by itself only if the augmenter computed in float16 too.
        optimizer=keras.optimizers.LossScaleOptimizer(optimizer) if recipe.precision == "mixed_float16" else optimizer,
        loss=build_loss(
            recipe.loss,
            focal_gamma=recipe.focal_gamma,
            focal_alpha=recipe.focal_alpha,
            label_smoothing=recipe.label_smoothing,
        ),
        metrics=["accuracy"],
    )


def cosine(recipe: Recipe, learning_rate: float, *, images: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Up to `learning_rate` in a line over the warm-up, then down to 0 along half a cosine (Loshchilov & Hutter 2017)."""
    steps = math.ceil(images / recipe.batch_size)
    warmup = recipe.warmup_epochs * steps
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, recipe.epochs * steps - warmup), warmup_target=learning_rate, warmup_steps=warmup
    )


def build_optimizer(
    recipe: Recipe, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    common = {"learning_rate": learning_rate, "weight_decay": recipe.weight_decay or None}
    if recipe.optimizer == "muon":
        iterated_in = "bfloat16" if recipe.precision == "mixed_bfloat16" else "float32"
        optimizer = Muon(iterated_in=iterated_in, adam_weight_decay=recipe.weight_decay or None, **common)
    elif recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(**common)
    else:
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "places"])
    return optimizer


def fit(
    model: keras.Model,
    recipe: Recipe,
    phase: Phase,
    learning: Dataset,
    validation: Dataset,
    run: Run,
    *,
    targets: Probabilities,
    order: Order | None,
    watchers: tuple[keras.callbacks.Callback, ...],
) -> None:
    done = len(run.history())
    model.fit(
        build_batches(recipe, learning, targets, order, epoch=done),
        validation_data=validation_batches(recipe, validation),
        initial_epoch=done,
        epochs=phase.last,
        callbacks=[*watching_validation(recipe, phase, run), *callbacks(recipe, run, watchers)],
        shuffle=False,  # Batches shuffles
        verbose=0,
    )


def build_batches(
    recipe: Recipe, learning: Dataset, targets: Probabilities, order: Order | None = None, *, epoch: int = 0
) -> Batches:
    weights = class_weights(targets, classes=learning.classes) if recipe.class_weights else None
    if recipe.targets == "teacher_views":  # the rest of the loss is the teachers'
        weights = np.full(len(learning.classes), 1 - recipe.teacher_share, np.float32)
    return Batches(
        learning.images,
        targets,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        epoch=epoch,
        order=order,
        stronger=stronger_rows(recipe, learning),
        mixup=recipe.mixup,
        weights=weights,
    )


def learning_targets(
    recipe: Recipe, original: Dataset, learning: Dataset, soft_targets: SoftTargets | None
) -> Probabilities:
    """What `learning` is to be read as: labels, the votes on each image, or its label and what teachers say, mixed.

    A copy is read as its original is; an image without votes as its label.
    """
    hard = targets_of(learning)
    if recipe.targets in ("labels", "teacher_views"):
        return hard
    if soft_targets is None:
        raise RunError(f"targets is {recipe.targets!r}, but none were given; expected {WHENCE[recipe.targets]}")
    row_of = {name: row for row, name in enumerate(original.names.tolist())}
    soft = soft_targets[[row_of[name] for name in original_names(learning).tolist()]]
    share = recipe.teacher_share if recipe.targets == "teacher" else 1.0
    mixed: Probabilities = np.where(soft.sum(axis=1, keepdims=True) > 0, share * soft + (1 - share) * hard, hard)
    return mixed.astype(np.float32)


WHENCE = {
    "votes": "a file of FER+ votes: give --votes FILE",
    "teacher": "recipes of teachers: give them to mien distill",
    "teacher_views": "finished runs or exported files as teachers: give them to mien distill",
}


def targets_of(dataset: Dataset) -> Probabilities:
    """One-hot float32 (n, classes)."""
    targets: Probabilities = np.eye(len(dataset.classes), dtype=np.float32)[dataset.labels]
    return targets


def stronger_rows(recipe: Recipe, dataset: Dataset) -> np.ndarray | None:
    """Which images are of the classes to change further; None where the recipe names none."""
    if not recipe.stronger_classes:
        return None
    recipe.check_classes(dataset.classes)
    chosen: np.ndarray = np.isin(np.array(dataset.classes)[dataset.labels], recipe.stronger_names)
    return chosen


def validation_batches(recipe: Recipe, validation: Dataset) -> InOrder:
    """Every image as it is: changed no further, and mixed with none."""
    stronger = np.zeros(len(validation), bool) if recipe.stronger_classes else None
    share = np.ones(len(validation), np.float32) if recipe.mixup else None
    return InOrder(inputs(validation.images, stronger, share), targets_of(validation))


def check_data(splits: Splits, run: Run) -> None:
    for name, part in (("train", splits.train), ("validation", splits.validation)):
        began_with = run.split[name]["sha256"]
        if part.sha256 != began_with:
            raise RunError(
                f"the {name} images hash to {part.sha256[:12]}, but {run.path} began with {began_with[:12]}; "
                "give --data the images it began with, or train a new run"
            )


def callbacks(
    recipe: Recipe, run: Run, watchers: tuple[keras.callbacks.Callback, ...]
) -> list[keras.callbacks.Callback]:
    """In the order they act, behind those that choose the next learning rate: it is saved with the epoch."""
    pacing = [] if recipe.curriculum == "none" else [LogPace(recipe)]
    return [Reseed(recipe.seed), StopOnNaN(), *pacing, SaveEpoch(run), *watchers]


def watching_validation(recipe: Recipe, phase: Phase, run: Run) -> list[keras.callbacks.Callback]:
    """What lowers the learning rate and ends the training when the validation loss no longer falls."""
    if recipe.schedule == "cosine":
        return []
    # A head alone is trained to its last epoch: what comes then is the same training.
    patience = recipe.epochs if phase.frozen else recipe.stop_patience
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss",
        factor=recipe.plateau_factor,
        patience=recipe.plateau_patience,
        min_lr=recipe.minimum_learning_rate,
    )
    history = run.history()[phase.first :]
    return [stopping, plateau, Replay((stopping, plateau), history, learning_rate=phase.learning_rate)]


def keep_best(recipe: Recipe, run: Run, *, classes: int) -> None:
    """Save the best epoch's network in float32, whatever precision it was trained in."""
    model = wrap(replace(recipe, precision="float32", weights="none"), classes=classes)
    model.load_weights(run.best_checkpoint)
    run.save_model(network_of(model))


class Replay(keras.callbacks.Callback):
    """Brings other callbacks to where a stopped training had them, by showing them its history again."""

    def __init__(self, others: tuple[keras.callbacks.Callback, ...], history: list[Row], *, learning_rate: float):
        super().__init__()
        self.others = others
        self.history = history
        self.learning_rate = learning_rate

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.history:
            return
        self.model.optimizer.learning_rate = self.learning_rate
        for epoch, row in enumerate(self.history):
            for other in self.others:
                other.on_epoch_end(epoch, dict(row))


class Reseed(keras.callbacks.Callback):
    """Ties every random layer's draws to the seed and the epoch, so that a resumed training draws the same ones."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for number, state in enumerate(states):
            state.assign(np.random.SeedSequence([self.seed, epoch, number]).generate_state(2))


class StopOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is no number any more; the epochs before it are kept."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if logs and not np.isfinite(logs["loss"]):
            rate = float(self.model.optimizer.learning_rate)
            raise RunError(
                f"the loss became {logs['loss']} in batch {batch + 1}; expected a number: lower learning_rate "
                f"(now {rate:g}) or train with precision=float32"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not np.isfinite((logs or {}).get("val_loss", 0.0)):
            raise RunError(
                f"the validation loss became {(logs or {})['val_loss']} in epoch {epoch + 1}; expected a number: lower "
                "learning_rate or train with precision=float32"
            )


class LogPace(keras.callbacks.Callback):
    """Adds to an epoch's figures the share of images, easiest first, that its curriculum drew from."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs["pace"] = pace(epoch, start=self.recipe.curriculum_start, epochs=self.recipe.curriculum_epochs)


class SaveEpoch(keras.callbacks.Callback):
    """Writes every finished epoch to the run."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        figures.setdefault("learning_rate", float(self.model.optimizer.learning_rate))
        seconds = time.monotonic() - self.began
        self.run.save_epoch(self.model, {"epoch": epoch + 1.0, **figures, "seconds": round(seconds, 1)})
