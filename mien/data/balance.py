"""Labels in, weights out: what the rare classes are worth while training."""

import numpy as np

from mien.emotions import Labels
from mien.errors import DataError


def class_weights(labels: Labels, *, classes: tuple[str, ...]) -> dict[int, float]:
    """Weight n / (classes × count) for each class, so that every class weighs the same in all.

    The mean weight over the images is 1. Source: King and Zeng (2001), as scikit-learn's "balanced".
    """
    counts = np.bincount(labels, minlength=len(classes))
    if missing := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        raise DataError(f"no training image is {' or '.join(missing)}; expected some of every class to weigh them")
    return {label: len(labels) / (len(classes) * int(count)) for label, count in enumerate(counts)}
