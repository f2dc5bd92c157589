"""Averaged weights and batches of training images in; batch normalisation that fits those weights out."""

from typing import Any

import keras
import numpy as np

from mien.training.batches import Batches
from mien.training.taught import without_teachers

ENOUGH = 20  # batches: their means and variances hardly change with more


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Validates with the running averages of the weights, and with batch statistics of their own."""

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_test_begin(logs)
        self.trained = [
            tuple(map(keras.ops.convert_to_numpy, (layer.moving_mean, layer.moving_variance)))
            for layer in normalisations(self.model)
        ]
        fit_statistics(self.model, self.batches)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_test_end(logs)
        for layer, (mean, variance) in zip(normalisations(self.model), self.trained, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)


def fit_statistics(model: keras.Model, batches: Batches) -> None:
    """Set the moving means and variances of batch normalisation to their mean over batches (Izmailov et al. 2018).

    Those that training leaves behind are of the last few batches, and of weights that no average has. Images are changed
    as in training, and each time alike: what is kept has the statistics with which it was judged.
    """
    model = without_teachers(model)
    reseed(model, batches.seed, epoch=0)
    layers = normalisations(model)
    momenta = [layer.momentum for layer in layers]
    for index in range(min(ENOUGH, len(batches))):
        for layer in layers:
            layer.momentum = index / (index + 1)
        model(batches[index][0], training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def reseed(model: keras.Model, seed: int, *, epoch: int) -> None:
    """Tie what every random layer draws next to a seed and an epoch."""
    states = [variable for variable in model.variables if variable.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, number]).generate_state(2))


def normalisations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
