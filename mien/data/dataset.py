"""A folder tree or fer2013.csv in, one Dataset out: decoded once, then read from a single cached array file."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mien.emotions import EMOTIONS, SIZE, Image48, Images, Indices, Labels, Names, Track
from mien.errors import DataError
from mien.files import replacing

TRAINING, PUBLIC, PRIVATE, TEST = (
    "Training",
    "PublicTest",
    "PrivateTest",
    "Test",
)  # the CSV's Usage, and test images of no known half

# Folder names of the common re-packages of FER2013, and the order of `emotion` in fer2013.csv.
SPELLINGS = {
    **dict(zip(EMOTIONS, EMOTIONS, strict=True)),
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
}
CSV_EMOTIONS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")

# The Kaggle layout numbers each class in the CSV's order, so its first test images of a class are PublicTest.
PUBLIC_COUNTS = (467, 56, 496, 895, 607, 653, 415)
PRIVATE_COUNTS = (491, 55, 528, 879, 626, 594, 416)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Faces and their labels, in memory.

    images: uint8 (n, 48, 48, 1), 0..255. labels: int64 (n,), indices into `classes`. names: one path-like name an
    image. usage: "Training", "PublicTest", "PrivateTest" or "Test" an image. skipped: one line for each file or row
    that was left out.
    """

    images: Images
    labels: Labels
    names: Names
    usage: Names
    classes: tuple[str, ...] = EMOTIONS
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.labels), len(self.names), len(self.usage)}
        if len(lengths) != 1:
            raise DataError(f"images, labels, names and usage have lengths {sorted(lengths)}; expected one length")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> "Dataset":
        """The rows at `indices`, in that order."""
        return replace(
            self,
            images=self.images[indices],
            labels=self.labels[indices],
            names=self.names[indices],
            usage=self.usage[indices],
        )

    @property
    def training(self) -> "Dataset":
        """The images given for training."""
        return self.take(np.flatnonzero(self.usage == TRAINING))

    @property
    def test(self) -> "Dataset":
        """The images given for testing, both halves."""
        return self.take(np.flatnonzero(self.usage != TRAINING))

    def counts(self) -> Labels:
        """Images of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def describe(self) -> dict[str, Any]:
        """Counts of each class by part, size in memory and hash, as plain JSON values."""
        parts = {
            usage: self.take(np.flatnonzero(self.usage == usage)) for usage in np.unique(self.usage)[::-1].tolist()
        }
        return {
            "counts": {
                usage: dict(zip(self.classes, part.counts().tolist(), strict=True)) for usage, part in parts.items()
            },
            "images": len(self),
            "megabytes": round(self.images.nbytes / 1e6, 1),
            "sha256": self.sha256,
            "skipped": list(self.skipped),
        }

    @cached_property
    def sha256(self) -> str:
        """Hash of pixels, labels and classes: two Datasets that train alike have the same one."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update("\n".join(self.classes).encode())
        return digest.hexdigest()


def image_hashes(images: Images) -> Names:
    """A hash of each image's pixels, as 32 hex digits: equal exactly where the pixels are."""
    return np.array([hashlib.blake2b(image.data, digest_size=16).hexdigest() for image in np.ascontiguousarray(images)])


def untracked(items: Sequence[str], description: str) -> Iterable[str]:
    """The default `Track`: show nothing."""
    return items


def load_dataset(source: Path, *, skip_bad: bool = False, track: Track = untracked) -> Dataset:
    """Load FER2013 from a folder tree (train/ and test/, a folder a class) or a fer2013.csv.

    Both give the same Dataset for the same images, sorted by part, class and number. The first load decodes and
    writes a cache (`MIEN_CACHE`, else ~/.cache/mien) keyed by every file's name, size and time; later ones read it.
    `skip_bad` leaves bad files and rows out and lists them in `skipped`; otherwise the first one is a DataError.
    """
    source = locate(source)
    cached = cache_folder() / f"{fingerprint(source, skip_bad=skip_bad)}.npz"
    if cached.exists():
        return read_cache(cached)
    load = load_csv if source.is_file() else load_folder
    dataset = load(source, skip_bad=skip_bad, track=track)
    write_cache(cached, dataset)
    return dataset


def locate(source: Path) -> Path:
    """The folder that holds train/ and test/, or the CSV file, at `source` or one folder below it."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source} does not exist; expected a folder with train/ and test/, or fer2013.csv")
    for folder in (source, *sorted(path for path in source.iterdir() if path.is_dir())):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return folder
        if (folder / "fer2013.csv").is_file():
            return folder / "fer2013.csv"
    raise DataError(f"{source} holds neither train/ and test/ nor fer2013.csv; expected one of the two")


def fingerprint(source: Path, *, skip_bad: bool) -> str:
    """A key that changes when any file's name, size or time does; reading 35,887 files to hash them takes seconds."""
    lines = sorted(stat_lines(source))
    # A change of the cached layout must change this word.
    return hashlib.sha256("\n".join([f"layout 1 {source.name} {skip_bad}", *lines]).encode()).hexdigest()[:32]


def stat_lines(source: Path) -> Iterator[str]:
    if source.is_file():
        yield f"{source.stat().st_size} {source.stat().st_mtime_ns}"
        return
    for part, folder in class_folders(source):
        with os.scandir(source / part / folder) as entries:
            for entry in entries:
                stat = entry.stat()
                yield f"{part}/{folder}/{entry.name} {stat.st_size} {stat.st_mtime_ns}"


def class_folders(source: Path) -> list[tuple[str, str]]:
    """The (part, folder) pairs below `source`: ("train", "angry"), …"""
    return [
        (part, path.name)
        for part in ("train", "test")
        for path in sorted((source / part).iterdir())
        if path.is_dir() and not path.name.startswith(".")
    ]


def cache_folder() -> Path:
    return Path(os.environ.get("MIEN_CACHE") or Path.home() / ".cache" / "mien") / "datasets"


def write_cache(path: Path, dataset: Dataset) -> None:
    with replacing(path) as draft:
        np.savez(
            draft,
            images=dataset.images,
            labels=dataset.labels,
            names=dataset.names,
            usage=dataset.usage,
            skipped=np.array(dataset.skipped, dtype=str),
        )


def read_cache(path: Path) -> Dataset:
    with np.load(path) as arrays:
        columns = {name: arrays[name] for name in ("images", "labels", "names", "usage")}
        return Dataset(**columns, skipped=tuple(arrays["skipped"].tolist()))


def load_folder(source: Path, *, skip_bad: bool, track: Track) -> Dataset:
    """Decode train/ and test/ below `source`; class folders may use any of SPELLINGS."""
    names, skipped = list_images(source)
    if skipped and not skip_bad:
        raise DataError(skipped[0])
    images = np.empty((len(names), SIZE, SIZE, 1), np.uint8)
    good = np.ones(len(names), bool)
    # One thread: Pillow holds the interpreter lock for most of so small a picture, and threads only queue for it.
    for row, name in enumerate(track(names, "decoding faces")):
        try:
            images[row] = decode(source / name)
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append(str(error))
            good[row] = False
    kept = np.array(names)[good]
    labels = np.array([EMOTIONS.index(SPELLINGS[name.split("/")[1].lower()]) for name in kept], dtype=np.int64)
    return Dataset(images[good], labels, kept, usage_of(kept, labels), skipped=tuple(skipped))


def list_images(source: Path) -> tuple[list[str], list[str]]:
    """Names of the files below `source`, by part, class and number; and a line for each class that has none."""
    folders: dict[tuple[str, str], str] = {}
    for part, folder in class_folders(source):
        if folder.lower() not in SPELLINGS:
            raise DataError(f"{source / part / folder} is no class of FER2013; expected {', '.join(EMOTIONS)}")
        folders[part, SPELLINGS[folder.lower()]] = f"{part}/{folder}"
    names: list[str] = []
    missing: list[str] = []
    for part, emotion in product(("train", "test"), EMOTIONS):
        folder = folders.get((part, emotion), f"{part}/{emotion}")
        files = sorted_by_number(source / folder) if (part, emotion) in folders else []
        if not files:
            fault = "has no images" if (part, emotion) in folders else "is missing"
            missing.append(f"{source / folder} {fault}; expected a folder of 48×48 grey images")
        names += [f"{folder}/{name}" for name in files]
    return names, missing


def sorted_by_number(folder: Path) -> list[str]:
    """File names in `folder`: im2.png before im10.png, hidden files left out."""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(names, key=lambda name: (len(name), name))


def decode(path: Path) -> Image48:
    """The 48×48 grey image at `path`, uint8 (48, 48, 1)."""
    try:
        with Image.open(path) as image:
            if image.mode != "L":
                raise DataError(f"{path} is a colour image (mode {image.mode}); expected grey (mode L)")
            if image.size != (SIZE, SIZE):
                raise DataError(f"{path} is {image.width}×{image.height} pixels; expected {SIZE}×{SIZE}")
            return np.asarray(image)[..., np.newaxis]
    except (UnidentifiedImageError, IsADirectoryError) as error:
        raise DataError(f"{path} is not an image; expected a 48×48 grey PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); expected a whole 48×48 grey image") from error


def usage_of(names: Names, labels: Labels) -> Names:
    """The CSV's Usage of each image: from its file name where that says so, else from its place in FER2013's order."""
    parts = np.array([TRAINING if name.startswith("train/") else TEST for name in names], dtype="U11")
    for usage in (PUBLIC, PRIVATE):
        parts[np.char.find(names, f"/{usage}_") >= 0] = usage
    test = np.flatnonzero(parts == TEST)
    counts = np.bincount(labels[test], minlength=len(EMOTIONS))
    if np.array_equal(counts, np.add(PUBLIC_COUNTS, PRIVATE_COUNTS)):
        for label, public in enumerate(PUBLIC_COUNTS):
            rows = test[labels[test] == label]
            parts[rows[:public]], parts[rows[public:]] = PUBLIC, PRIVATE
    return parts


def load_csv(source: Path, *, skip_bad: bool, track: Track) -> Dataset:
    """Read fer2013.csv (emotion, pixels, Usage), naming and ordering its images as the folder tree does."""
    images, labels, numbers, usage, skipped = read_rows(source, skip_bad=skip_bad, track=track)
    order = np.lexsort((numbers, labels, usage != TRAINING))
    parts = np.where(usage[order] == TRAINING, "train", "test").tolist()
    places = zip(parts, labels[order].tolist(), numbers[order].tolist(), strict=True)
    names = np.array([f"{part}/{EMOTIONS[label]}/im{number}.png" for part, label, number in places])
    return Dataset(images[order], labels[order], names, usage[order], skipped=tuple(skipped))


def read_rows(source: Path, *, skip_bad: bool, track: Track) -> tuple[Images, Labels, Labels, Names, list[str]]:
    """Pixels, labels, numbers within part and class, and Usage of every row, in the file's order; a line a bad row."""
    with source.open(newline="", encoding="utf-8") as file:
        lines = max(sum(1 for _ in file) - 1, 0)
    images = np.empty((lines, SIZE, SIZE, 1), np.uint8)
    places: list[tuple[int, int, str]] = []
    counts: Counter[tuple[bool, int]] = Counter()
    skipped: list[str] = []
    with source.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"emotion", "pixels", "Usage"} <= set(rows.fieldnames):
            raise DataError(f"{source} has columns {rows.fieldnames}; expected emotion, pixels and Usage")
        for line, row in zip(track([str(line) for line in range(2, lines + 2)], "decoding faces"), rows, strict=False):
            try:
                label, usage = parse_place(row)
                # A row with bad pixels keeps its number: the names of those after it must not move.
                number = counts[usage == TRAINING, label]
                counts[usage == TRAINING, label] += 1
                images[len(places)] = parse_pixels(row["pixels"] or "")
                places.append((label, number, usage))
            except DataError as error:
                if not skip_bad:
                    raise DataError(f"{source}, line {line}: {error}") from error
                skipped.append(f"{source}, line {line}: {error}")
    if not places:
        raise DataError(f"{source} has no usable row; expected FER2013's emotion, pixels and Usage")
    labels, numbers, usages = zip(*places, strict=True)
    return images[: len(places)], np.array(labels, np.int64), np.array(numbers, np.int64), np.array(usages), skipped


def parse_place(row: dict[str, str]) -> tuple[int, str]:
    """Label and Usage of one row of fer2013.csv."""
    emotion, usage = row["emotion"], row["Usage"]
    if emotion not in map(str, range(len(CSV_EMOTIONS))):
        raise DataError(f"emotion is {emotion!r}; expected 0 to {len(CSV_EMOTIONS) - 1}")
    if usage not in (TRAINING, PUBLIC, PRIVATE):
        raise DataError(f"Usage is {usage!r}; expected {TRAINING}, {PUBLIC} or {PRIVATE}")
    return EMOTIONS.index(CSV_EMOTIONS[int(emotion)]), usage


def parse_pixels(text: str) -> Image48:
    """The 2,304 numbers of one row as an image."""
    try:
        pixels = np.array(text.split(), dtype=np.int64)
    except ValueError as error:
        raise DataError(f"pixels are not whole numbers ({error}); expected {SIZE * SIZE} of 0 to 255") from error
    if len(pixels) != SIZE * SIZE:
        raise DataError(f"there are {len(pixels)} pixels; expected {SIZE * SIZE}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise DataError(f"pixels go from {pixels.min()} to {pixels.max()}; expected 0 to 255")
    return pixels.astype(np.uint8).reshape(SIZE, SIZE, 1)
