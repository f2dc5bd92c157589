"""Images and labels in, shuffled batches out, in an order that the seed and the epoch alone decide."""

import math

import keras
import numpy as np

from mien.emotions import Images, Labels


class Batches(keras.utils.PyDataset):
    """The batches of one epoch after another; a resumed training sees the same order as one never stopped."""

    def __init__(self, images: Images, labels: Labels, *, batch_size: int, seed: int, epoch: int = 0) -> None:
        super().__init__()
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.order = self.shuffled()

    def shuffled(self) -> np.ndarray:
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.images))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Images, Labels]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.images[rows], self.labels[rows]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self.order = self.shuffled()
