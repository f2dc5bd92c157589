"""Images and targets in, shuffled batches out, in an order that the seed and the epoch alone decide."""

import math
from collections.abc import Callable

import keras
import numpy as np

from mien.emotions import Images, Indices, Probabilities

# Keras lets tf.data tune a PyDataset without workers, and a used-up iterator then waits for its tuner's next turn: half of
# an epoch's time or more, doing nothing.
WORKERS = 2

Order = Callable[[np.random.Generator, int], Indices]  # (chance, epoch from 0) -> the rows of that epoch, in order
Inputs = Images | dict[str, np.ndarray]  # as build_augmenter names them


class Batches(keras.utils.PyDataset):
    """The batches of one epoch after another; a resumed training sees the same order as one never stopped.

    targets: float32 (n, classes), one-hot or soft. order: which rows an epoch shows, as many in each; all of them
    shuffled where none is given. stronger: bool (n,), the images to be changed further, where the augmenter asks.
    mixup: α of Beta(α, α), from which the share is drawn that each image keeps where pairs are mixed (Zhang et al. 2018).
    weights: of each class, float32 (classes,); an image weighs what its target says, share by share. Batches have a third
    part then.
    """

    def __init__(
        self,
        images: Images,
        targets: Probabilities,
        *,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        order: Order | None = None,
        stronger: np.ndarray | None = None,
        mixup: float = 0.0,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(workers=WORKERS)
        self.images = images
        self.targets = targets
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.order = order or (lambda chance, _: chance.permutation(len(images)))
        self.stronger = stronger
        self.mixup = mixup
        self.weights = weights
        self.rows = self.rows_of_epoch()

    def rows_of_epoch(self) -> Indices:
        # Keras ends an epoch before it begins the first, so this one counts from 1.
        return self.order(np.random.default_rng([self.seed, self.epoch]), max(0, self.epoch - 1))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Inputs, Probabilities] | tuple[Inputs, Probabilities, np.ndarray]:
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        stronger = None if self.stronger is None else self.stronger[rows]
        targets, share = self.targets[rows], None
        if self.mixup:
            chance = np.random.default_rng([self.seed, self.epoch, index])
            share = chance.beta(self.mixup, self.mixup, len(rows)).astype(np.float32)
            targets = share[:, np.newaxis] * targets + (1 - share[:, np.newaxis]) * targets[::-1]
        given = inputs(self.images[rows], stronger, share)
        return (given, targets) if self.weights is None else (given, targets, targets @ self.weights)

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.rows = self.rows_of_epoch()


class InOrder(keras.utils.PyDataset):
    """Inputs and targets as they are, in batches, in order."""

    def __init__(self, given: Inputs, targets: Probabilities, *, batch_size: int = 256) -> None:
        super().__init__(workers=WORKERS)
        self.given = given
        self.targets = targets
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Inputs, Probabilities]:
        rows = slice(index * self.batch_size, (index + 1) * self.batch_size)
        if isinstance(self.given, dict):
            return {name: values[rows] for name, values in self.given.items()}, self.targets[rows]
        return self.given[rows], self.targets[rows]


def inputs(images: Images, stronger: np.ndarray | None = None, share: np.ndarray | None = None) -> Inputs:
    """What a network behind an augmenter takes: images alone, or with a column for each further input (n,) given."""
    columns = {"stronger": stronger, "share": share}
    further = {name: values[:, np.newaxis] for name, values in columns.items() if values is not None}
    return {"image": images, **further} if further else images
