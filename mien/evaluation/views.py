"""A classifier in, one that looks at several views of each image out: test-time augmentation, which a report names."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mien.emotions import Images, Probabilities
from mien.errors import RecipeError

VIEWS = {
    "single": "none: one view of each image",
    "mirror": "the image and its mirror image, probabilities averaged",
    "shifts": "the image and four moved by two pixels along each diagonal, each mirrored too, probabilities averaged",
}
DIAGONALS = ((0, 0), (2, 2), (2, -2), (-2, 2), (-2, -2))  # rows down, columns to the right


@runtime_checkable
class Classifier(Protocol):
    """Whatever predicts: a Keras network, an ONNX file, an ensemble, somebody else's model."""

    def predict(self, images: Images) -> Probabilities: ...


@dataclass(frozen=True, eq=False)
class ManyViews:
    """The mean of what a classifier says of several views of an image."""

    classifier: Classifier
    moves: tuple[tuple[int, int], ...]

    def predict(self, images: Images) -> Probabilities:
        """Probabilities float32 (n, classes) for uint8 images (n, 48, 48, 1)."""
        views = [moved(images, *move) for move in self.moves]
        views += [view[:, :, ::-1] for view in views]
        mean: Probabilities = np.mean([self.classifier.predict(np.ascontiguousarray(view)) for view in views], axis=0)
        return mean


def look_at(classifier: Classifier, views: str) -> Classifier:
    """`classifier` itself for "single", else one that averages over the views that VIEWS names."""
    if views not in VIEWS:
        raise RecipeError(f"views are {views!r}; expected one of {', '.join(VIEWS)}")
    if views == "single":
        return classifier
    return ManyViews(classifier, DIAGONALS if views == "shifts" else DIAGONALS[:1])


def moved(images: Images, down: int, right: int) -> Images:
    """Each image moved by so many pixels; its edge is repeated where nothing was."""
    reach = max(abs(down), abs(right))
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    return padded[:, reach - down : reach - down + height, reach - right : reach - right + width]
