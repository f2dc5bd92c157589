"""A run's folder in, a classifier out: whatever has `predict(images)` is evaluated alike."""

from dataclasses import dataclass

import keras
import numpy as np

from mien.emotions import Images, Probabilities
from mien.training.runs import Run

BATCH = 256  # images


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network and the classes of its outputs, in order."""

    network: keras.Model
    classes: tuple[str, ...]

    def predict(self, images: Images) -> Probabilities:
        """Probabilities float32 (n, classes) for uint8 images (n, 48, 48, 1)."""
        # One batch after another: Keras' predict() would tune how it is fed, and wait for its tuner at the end.
        batches = [self.network.predict_on_batch(images[row : row + BATCH]) for row in range(0, len(images), BATCH)]
        return np.concatenate(batches)


def load_trained(run: Run) -> TrainedNetwork:
    """The best epoch's network of a finished run."""
    run.require_finished()
    return TrainedNetwork(keras.saving.load_model(run.model_path, compile=False), tuple(run.split["train"]["counts"]))
