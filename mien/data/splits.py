"""Split a Dataset into train, validation and test, and prove that they do not overlap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.data.dataset import Dataset, image_hashes
from mien.data.groups import stratified_groups
from mien.emotions import Indices
from mien.errors import DataError


@dataclass(frozen=True)
class Splits:
    """Three parts of one data set; `test` is for finished models alone, every decision looks at `validation`."""

    train: Dataset
    validation: Dataset
    test: Dataset

    def to_dict(self) -> dict[str, Any]:
        """Images, counts and hashes of each part, and how many images of one part are also in another."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            **{
                name: {
                    "images": len(part),
                    "counts": dict(zip(part.classes, part.counts().tolist(), strict=True)),
                    "sha256": part.sha256,
                }
                for name, part in parts.items()
            },
            "validation_images_also_in_train": len(find_leaks(self.train, self.validation)),
            "test_images_also_in_train": len(find_leaks(self.train, self.test)),
        }


def split(dataset: Dataset, *, validation_share: float = 0.2, seed: int = 42) -> Splits:
    """Carve validation from the training images, stratified by class; the test images stay as they came.

    Images with equal pixels go to the same side, so that no validation image was trained on. 0 < validation_share < 1.
    """
    if not 0 < validation_share < 1:
        raise DataError(f"validation_share is {validation_share}; expected a share between 0 and 1, such as 0.2")
    training = dataset.training
    held_out = stratified_groups(
        training.labels, image_hashes(training.images), share=validation_share, rng=np.random.default_rng(seed)
    )
    kept = np.setdiff1d(np.arange(len(training)), held_out)
    if not (len(held_out) and len(kept)):
        raise DataError(
            f"{validation_share:g} of {len(training)} training images leaves {len(kept)} to train on and "
            f"{len(held_out)} to validate on; expected some of both: give more images"
        )
    return Splits(training.take(kept), training.take(held_out), dataset.test)


def split_as(dataset: Dataset, recipe: Mapping[str, Any]) -> Splits:
    """The split of a recipe as a run or a file keeps it; where it does not say, as recipes have it."""
    return split(dataset, validation_share=recipe.get("validation_share", 0.2), seed=recipe.get("split_seed", 42))


def find_leaks(known: Dataset, held_out: Dataset) -> Indices:
    """Rows of `held_out` whose pixels equal some image of `known`."""
    return np.flatnonzero(np.isin(image_hashes(held_out.images), image_hashes(known.images)))
