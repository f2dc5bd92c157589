"""Labels in, weights out, and a rare class in, a larger one out: two cures for classes of unequal size."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mien.data.dataset import TRAINING, Dataset
from mien.data.splits import Splits
from mien.emotions import SIZE, Images, Indices, Labels, Names
from mien.errors import DataError

ROTATION = 15.0  # degrees, largest turn of a copy each way
ZOOM = 0.15  # largest change of a copy's size each way, as a share
SHIFT = 0.05  # largest move of a copy each way, as a share of the side
BLOCK = 128  # images resampled at once: few enough to stay in a core's cache
SUFFIX = r"(?=(\.[^./]*)?\Z)"  # the place in a name before .png
COPY = re.compile(rf"\+copy\d+{SUFFIX}")  # what the name of a copy has more than its original's: im3+copy2.png

Maps = Float32[np.ndarray, "n 2 3"]  # from a place in the copy to one in the original: (x, y), in pixels off the centre
Places = Float32[np.ndarray, "n places"]  # a coordinate, or what is seen there, of each image's places


def class_weights(labels: Labels, *, classes: tuple[str, ...]) -> dict[int, float]:
    """Weight n / (classes × count) for each class, so that every class weighs the same in all.

    The mean weight over the images is 1. Source: King and Zeng (2001), as scikit-learn's "balanced".
    """
    counts = np.bincount(labels, minlength=len(classes))
    if missing := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
        raise DataError(f"no training image is {' or '.join(missing)}; expected some of every class to weigh them")
    return {label: len(labels) / (len(classes) * int(count)) for label, count in enumerate(counts)}


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
    maps = draw_maps(len(images), rng=rng)
    varied = np.empty_like(images)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        varied[block] = resample(images[block], maps[block])
    return varied


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
    """Each image seen through its map: bilinear between pixels, mirrored beyond the borders, where nothing is known."""
    centre = (SIZE - 1) / 2
    rows, columns = np.indices((SIZE, SIZE), dtype=np.float32).reshape(2, -1) - centre
    x, y = np.moveaxis(maps @ np.stack([columns, rows, np.ones_like(rows)]), 1, 0) + np.float32(centre)
    x, y = reflect(x), reflect(y)
    # The last pixel is reached from the one before it, so that each place has a right and a lower neighbour.
    left, top = (np.minimum(np.floor(place), SIZE - 2) for place in (x, y))
    x, y = x - left, y - top
    corner = (top * SIZE + left).astype(np.int32) + np.arange(len(images), dtype=np.int32)[:, np.newaxis] * SIZE**2
    pixels = images.reshape(-1).astype(np.float32)
    upper = blend(pixels[corner], pixels[corner + 1], x)
    lower = blend(pixels[corner + SIZE], pixels[corner + SIZE + 1], x)
    return (blend(upper, lower, y) + 0.5).astype(np.uint8).reshape(images.shape)


def reflect(places: Places) -> Places:
    """Places outside 0..SIZE - 1 to the same distance inside."""
    last = np.float32(SIZE - 1)
    inside: Places = last - np.abs(last - np.abs(places))
    return inside


def blend(start: Places, end: Places, share: Places) -> Places:
    blended: Places = start + (end - start) * share
    return blended


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
    """Write each image as a PNG below `folder`, under its name; each class's folder appears whole or not at all."""
    names = np.array([Path(name).with_suffix(".png") for name in dataset.names.tolist()], dtype=object)
    if len(set(names)) < len(names):
        raise DataError("two images would have the same PNG name; expected a name of its own for each")
    parents = np.array([str(name.parent) for name in names])
    present = [folder / parent for parent in sorted(set(parents)) if (folder / parent).exists()]
    if present:
        raise DataError(f"{present[0]} exists already; expected a new folder: choose another --out")
    for parent in sorted(set(parents)):
        with new_folder(folder / parent) as draft:
            for row in np.flatnonzero(parents == parent):
                Image.fromarray(dataset.images[row, :, :, 0]).save(draft / names[row].name)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; it becomes `path` when the block succeeds."""
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    draft.mkdir(parents=True)
    try:
        yield draft
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
