"""Images and targets in, shuffled batches out, in an order that the seed and the epoch alone decide."""

import math
from collections.abc import Callable

import keras
import numpy as np

from mien.emotions import Images, Indices, Probabilities

Order = Callable[[np.random.Generator, int], Indices]  # (chance, epoch) -> the rows of that epoch, in order
Batch = tuple[Images | tuple[Images, np.ndarray], Probabilities]


class Batches(keras.utils.PyDataset):
    """The batches of one epoch after another; a resumed training sees the same order as one never stopped.

    targets: float32 (n, classes), one-hot or soft. order: which rows an epoch shows, as many in each; all of them
    shuffled where none is given. stronger: bool (n,), the images to be changed further, where the augmenter asks.
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
    ) -> None:
        super().__init__()
        self.images = images
        self.targets = targets
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.order = order or (lambda chance, _: chance.permutation(len(images)))
        self.stronger = stronger
        self.rows = self.rows_of_epoch()

    def rows_of_epoch(self) -> Indices:
        return self.order(np.random.default_rng([self.seed, self.epoch]), self.epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> Batch:
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[rows]
        inputs = images if self.stronger is None else (images, self.stronger[rows, np.newaxis])
        return inputs, self.targets[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.rows = self.rows_of_epoch()
