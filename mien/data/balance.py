"""Labels in, weights out, and a rare class in, a larger one out: two cures for classes of unequal size."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32
from PIL import Image

from mien.data.dataset import TRAINING, Dataset
from mien.data.splits import Splits
from mien.emotions import SIZE, Images, Indices, Names, Probabilities
from mien.errors import DataError
from mien.files import draft_of

ROTATION = 15.0  # degrees, largest turn of a copy each way
ZOOM = 0.15  # largest change of a copy's size each way, as a share
SHIFT = 0.05  # largest move of a copy each way, as a share of the side
SUFFIX = r"(?=(\.[^./]*)?\Z)"  # the place in a name before .png
COPY = re.compile(rf"\+copy\d+{SUFFIX}")  # what the name of a copy has more than its original's: im3+copy2.png

Maps = Float32[np.ndarray, "n 2 3"]  # from a place in the copy to one in the original: (x, y), in pixels off the centre


def class_weights(targets: Probabilities, *, classes: tuple[str, ...]) -> Float32[np.ndarray, " classes"]:
    """Weight n / (classes × count) for each class, so that every class weighs the same in all.

    targets: (n, classes), one-hot or soft; a class counts for its shares. The mean weight over the images is 1. Source:
    King and Zeng (2001), as scikit-learn's "balanced".
    """
    counts = targets.sum(axis=0, dtype=np.float64)
    if missing := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        raise DataError(f"no training image is {' or '.join(missing)}; expected some of every class to weigh them")
    weights: Float32[np.ndarray, " classes"] = (len(targets) / (len(classes) * counts)).astype(np.float32)
    return weights


def oversample(dataset: Dataset, *, class_name: str, target: int, seed: int) -> Dataset:
    """`dataset`, a training part, with changed copies of the images of `class_name` added until it has `target`.

    A copy is turned, zoomed and moved within ROTATION, ZOOM and SHIFT, half of them mirrored, and named after its
    original: train/disgusted/im3+copy2.png is the second of im3.png. No original has two copies more than another.
    Split first: a split made of an oversampled data set is what `refuse_straddling_copies` refuses.
    """
    originals = find_originals(dataset, class_name=class_name, target=target)
    rng = np.random.default_rng(seed)
    turns = np.arange(target - len(originals))
    sources = rng.permutation(originals)[turns % len(originals)]
    copies = replace(
        dataset.take(sources),
        images=vary(dataset.images[sources], rng=rng),
        names=name_copies(dataset.names[sources], numbers=1 + turns // len(originals)),
    )
    return join(dataset, copies)


def find_originals(dataset: Dataset, *, class_name: str, target: int) -> Indices:
    """The rows that are `class_name`, once it is sure that they can be brought to `target`."""
    if class_name not in dataset.classes:
        raise DataError(f"there is no class {class_name!r}; expected one of {', '.join(dataset.classes)}")
    if others := int(np.sum(dataset.usage != TRAINING)):
        raise DataError(f"{others} of the images are for testing; expected training images alone: split first")
    rows = np.flatnonzero(dataset.labels == dataset.classes.index(class_name))
    if len(rows) == 0:
        raise DataError(f"no training image is {class_name}; expected at least one to make copies of")
    if target < len(rows):
        raise DataError(
            f"{class_name} has {len(rows)} images already; expected a target of at least that, not {target}"
        )
    if copies := [name for name in dataset.names[rows].tolist() if COPY.search(name)]:
        raise DataError(f"{copies[0]} is a copy already; expected original images alone: start from those")
    return rows


def name_copies(names: Names, *, numbers: Indices) -> Names:
    """train/disgusted/im3.png and 2 to train/disgusted/im3+copy2.png."""
    numbered = zip(names.tolist(), numbers.tolist(), strict=True)
    return np.array([re.sub(SUFFIX, f"+copy{number}", name, count=1) for name, number in numbered], dtype=str)


def join(first: Dataset, second: Dataset) -> Dataset:
    return replace(
        first,
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, second.labels]),
        names=np.concatenate([first.names, second.names]),
        usage=np.concatenate([first.usage, second.usage]),
    )


def vary(images: Images, *, rng: np.random.Generator) -> Images:
    """Each image turned, zoomed, moved and mirrored by chance."""
    return resample(images, draw_maps(len(images), rng=rng))


def draw_maps(count: int, *, rng: np.random.Generator) -> Maps:
    """Turns within ROTATION, sizes within ZOOM, moves within SHIFT, mirrored every other time; all uniform."""
    angle = np.radians(rng.uniform(-ROTATION, ROTATION, count))
    cosine, sine = np.cos(angle), np.sin(angle)
    mirror = rng.choice([-1.0, 1.0], count)
    turn = np.array([[mirror * cosine, -sine], [mirror * sine, cosine]]).transpose(2, 0, 1)
    zoom = rng.uniform(1 - ZOOM, 1 + ZOOM, (count, 1, 1))
    move = rng.uniform(-SHIFT * SIZE, SHIFT * SIZE, (count, 2, 1))
    return np.concatenate([turn / zoom, move], axis=2).astype(np.float32)


def resample(images: Images, maps: Maps) -> Images:
    """Each image seen through its map, mirrored beyond the borders, where nothing is known.

    Lanczos interpolation, since a copy must be as sharp as its original: a network soon knows a class by its blur.
    """
    places = maps.copy()  # from the picture's corner in the copy to the original's corner
    places[:, :, 2] += (SIZE - 1) / 2 * (1 - maps[:, :, :2].sum(axis=2))
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    seen = [
        cv2.warpAffine(image, place, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        for image, place in zip(images, places, strict=True)
    ]
    return np.array(seen, dtype=np.uint8).reshape(images.shape)


def refuse_straddling_copies(splits: Splits) -> None:
    """Raise DataError if validation or test holds a copy of a training image, or what a training image is a copy of."""
    for name, held_out in (("validation", splits.validation), ("test", splits.test)):
        rows = find_straddling_copies(splits.train, held_out)
        if len(rows):
            raise DataError(
                f"{len(rows)} {name} images share their original with a training image, the first "
                f"{held_out.names[rows[0]]}; expected none: split the original images, then oversample"
            )


def find_straddling_copies(train: Dataset, held_out: Dataset) -> Indices:
    """Rows of `held_out` that share their original with an image of `train`: by name, since no pixel is alike."""
    return np.flatnonzero(np.isin(original_names(held_out), original_names(train)))


def original_names(dataset: Dataset) -> Names:
    """The name of each image's original, which is its own name unless it is a copy."""
    return np.array([COPY.sub("", name) for name in dataset.names.tolist()], dtype=str)


def write_images(dataset: Dataset, folder: Path) -> None:
    """Write each image as a PNG below `folder`, under its name; the folder, a new one, appears whole or not at all."""
    names = [Path(name).with_suffix(".png") for name in dataset.names.tolist()]
    if len(set(names)) < len(names):
        raise DataError("two images would have the same PNG name; expected a name of its own for each")
    if folder.exists():
        raise DataError(f"{folder} exists already; expected a new folder: choose another --out")
    with new_folder(folder) as draft:
        for parent in {name.parent for name in names}:
            (draft / parent).mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, dataset.images, strict=True):
            Image.fromarray(image[:, :, 0]).save(draft / name)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; it becomes `path` when the block succeeds."""
    draft = draft_of(path)
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
