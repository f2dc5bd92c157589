"""A recipe, splits and a Run in; a trained network out, with everything about it in the run's folder."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mien.data.balance import class_weights
from mien.data.splits import Splits
from mien.errors import RunError
from mien.models import build_network
from mien.training.augment import build_augmenter
from mien.training.batches import Batches
from mien.training.recipe import Recipe
from mien.training.runs import Row, Run


def train(recipe: Recipe, splits: Splits, run: Run, *, watchers: tuple[keras.callbacks.Callback, ...] = ()) -> Run:
    """Train `recipe` on `splits.train`, watch `splits.validation`, keep the epoch with the lowest validation loss.

    Goes on where `run` stopped, if it has epochs already. `watchers` see the training and change nothing.
    Raises RunError when the data differ from those the run began with, or when the loss becomes NaN.
    """
    check_data(splits, run)
    keras.utils.set_random_seed(recipe.seed)
    model = compile_model(recipe, classes=len(splits.train.classes))
    done = restore(model, run)
    if not is_complete(recipe, run.history()):
        model.fit(
            Batches(
                splits.train.images, splits.train.labels, batch_size=recipe.batch_size, seed=recipe.seed, epoch=done
            ),
            validation_data=(splits.validation.images, splits.validation.labels),
            validation_batch_size=256,
            initial_epoch=done,
            epochs=recipe.epochs,
            class_weight=class_weights_of(recipe, splits),
            callbacks=callbacks(recipe, run, watchers),
            shuffle=False,  # Batches shuffles
            verbose=0,
        )
    keep_best(model, run)
    return run


def check_data(splits: Splits, run: Run) -> None:
    for name, part in (("train", splits.train), ("validation", splits.validation)):
        began_with = run.split[name]["sha256"]
        if part.sha256 != began_with:
            raise RunError(
                f"the {name} images hash to {part.sha256[:12]}, but {run.path} began with {began_with[:12]}; "
                "give --data the images it began with, or train a new run"
            )


def compile_model(recipe: Recipe, *, classes: int) -> keras.Model:
    """The network behind its augmenter, ready to fit. The two stay apart: what is saved has no random layers.

    A random layer inside a saved network would run, and shift batch statistics, whenever the network is called
    without `training=False`, ONNX export included.
    """
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = build_network(recipe.model, classes=classes)
    finally:
        keras.config.set_dtype_policy("float32")
    augmenter = build_augmenter(
        flip=recipe.flip, rotation=recipe.rotation, zoom=recipe.zoom, shift=recipe.shift, seed=recipe.seed
    )
    image = keras.Input(network.input_shape[1:], name="image")
    model = keras.Model(image, network(augmenter(image)), name="training")
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def network_of(model: keras.Model) -> keras.Model:
    """The network inside a model of `compile_model`."""
    return model.layers[-1]


def restore(model: keras.Model, run: Run) -> int:
    """Load the last finished epoch, if there is one; returns the number of finished epochs."""
    done = len(run.history())
    if done:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.checkpoint(done))
    return done


def is_complete(recipe: Recipe, history: list[Row]) -> bool:
    """Whether the history already ends where EarlyStopping or the last epoch ends it."""
    if not history:
        return False
    best = int(np.argmin([row["val_loss"] for row in history]))
    return len(history) >= recipe.epochs or len(history) - 1 - best >= recipe.stop_patience


def class_weights_of(recipe: Recipe, splits: Splits) -> Mapping[int, float] | None:
    if not recipe.class_weights:
        return None
    return class_weights(splits.train.labels, classes=splits.train.classes)


def callbacks(
    recipe: Recipe, run: Run, watchers: tuple[keras.callbacks.Callback, ...]
) -> list[keras.callbacks.Callback]:
    """In the order they act: the epoch is saved after the learning rate for the next one is known."""
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=recipe.stop_patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss",
        factor=recipe.plateau_factor,
        patience=recipe.plateau_patience,
        min_lr=recipe.minimum_learning_rate,
    )
    return [
        stopping,
        plateau,
        Replay((stopping, plateau), run.history(), learning_rate=recipe.learning_rate),
        Reseed(recipe.seed),
        StopOnNaN(),
        SaveEpoch(run),
        *watchers,
    ]


def keep_best(model: keras.Model, run: Run) -> None:
    """Save the best epoch's network in float32, whatever precision it was trained in."""
    model.load_weights(run.best_checkpoint)
    network = build_network(run.recipe.model, classes=model.output_shape[-1])
    network.set_weights(network_of(model).get_weights())
    run.save_model(network)


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


class SaveEpoch(keras.callbacks.Callback):
    """Writes every finished epoch to the run."""

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        seconds = time.monotonic() - self.began
        self.run.save_epoch(self.model, {"epoch": epoch + 1.0, **figures, "seconds": round(seconds, 1)})
