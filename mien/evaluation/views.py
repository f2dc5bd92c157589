"""A classifier in, one that looks at several views of each image out: test-time augmentation, which a report names."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from mien.emotions import SIZE, Images, Probabilities
from mien.errors import RecipeError

VIEWS = {
    "single": "none: one view of each image",
    "mirror": "the image and its mirror image, probabilities averaged",
    "warps": "the image, 8 % larger and smaller, and turned by 7° each way, each mirrored too, probabilities averaged",
}
WARPS = ((1.0, 0.0), (1.08, 0.0), (0.92, 0.0), (1.0, 7.0), (1.0, -7.0))  # size, degrees to the left; the image first


@runtime_checkable
class Classifier(Protocol):
    """Whatever predicts: a Keras network, an ONNX file, an ensemble, somebody else's model."""

    def predict(self, images: Images) -> Probabilities: ...


@dataclass(frozen=True, eq=False)
class ManyViews:
    """The mean of what a classifier says of several views of an image."""

    classifier: Classifier
    warps: tuple[tuple[float, float], ...]

    def predict(self, images: Images) -> Probabilities:
        """Probabilities float32 (n, classes) for uint8 images (n, 48, 48, 1)."""
        views = [warped(images, *warp) for warp in self.warps]
        views += [view[:, :, ::-1] for view in views]
        mean: Probabilities = np.mean([self.classifier.predict(np.ascontiguousarray(view)) for view in views], axis=0)
        return mean


def look_at(classifier: Classifier, views: str) -> Classifier:
    """`classifier` itself for "single", else one that averages over the views that VIEWS names."""
    if views not in VIEWS:
        raise RecipeError(f"views are {views!r}; expected one of {', '.join(VIEWS)}")
    if views == "single":
        return classifier
    return ManyViews(classifier, WARPS if views == "warps" else WARPS[:1])


def warped(images: Images, size: float, degrees: float) -> Images:
    """Each image so many times as large, and turned to the left, about its centre; edges are repeated where nothing was."""
    there = cv2.getRotationMatrix2D(((SIZE - 1) / 2, (SIZE - 1) / 2), degrees, size)
    seen = [cv2.warpAffine(image, there, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE) for image in images]
    return np.array(seen, dtype=np.uint8).reshape(images.shape)
