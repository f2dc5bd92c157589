"""A folder tree or fer2013.csv in, one Dataset out: decoded once, then read from a single cached array file."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mien.data.groups import stratified_groups
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

CLASSES = (2, 50)  # fewest and most of a folder of one's own
TEST_SHARE = 0.2  # carved from a folder that has no test part
TEST_SEED = 0  # the same for every recipe: runs on one folder are tested on the same images
THIRD_PARTS = ("val", "valid", "validation", "dev")
CARVED = "there is no test/:"  # how the note on that begins
LEAVE_OUT = "leave out what is bad with --skip-bad"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Faces and their labels, in memory.

    images: uint8 (n, 48, 48, 1), 0..255. labels: int64 (n,), indices into `classes`. names: one path-like name an
    image. usage: "Training", "PublicTest", "PrivateTest" or "Test" an image. skipped: one line for each file or row
    that was left out. notes: one line for each thing that loading changed or chose.
    """

    images: Images
    labels: Labels
    names: Names
    usage: Names
    classes: tuple[str, ...] = EMOTIONS
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
    def is_carved(self) -> bool:
        """Whether the test images were set aside here, and not given apart."""
        return any(note.startswith(CARVED) for note in self.notes)

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
            "notes": list(self.notes),
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
    """Load faces from a folder tree (a folder a class, within train/ and test/ or not) or a fer2013.csv.

    A tree with train/, test/, FER2013's classes and first pictures of its size is FER2013: it gives the same Dataset as
    the CSV for the same images, and a picture that is not 48×48 and grey is bad. Any other tree is the user's own: 2
    to 50 classes, pictures of any size, whose middle square becomes 48×48 and grey; without train/ and test/, a test
    part is carved, the same every time, with copies of an image on one side. What was changed or chosen so is in `notes`.

    Sorted by part, class and number. The first load decodes and writes a cache (`MIEN_CACHE`, else ~/.cache/mien) keyed
    by every file's name, size and time; later ones read it. `skip_bad` leaves bad files and rows, and classes of one's
    own without training images, out and lists them in `skipped`; otherwise the first one is a DataError.
    """
    source = locate(source)
    cached = cache_folder() / f"{fingerprint(source, skip_bad=skip_bad)}.npz"
    dataset = read_cache(cached)
    if dataset is None:
        load = load_csv if source.is_file() else load_folder
        dataset = load(source, skip_bad=skip_bad, track=track)
        # Where nothing can be kept, the next load takes longer, and no more.
        with suppress(OSError):
            write_cache(cached, dataset)
    return replace(dataset, notes=(*dataset.notes, *unread(source)))


def unread(source: Path) -> Iterator[str]:
    """A line for a third part beside train/ and test/."""
    if all((source / part).is_dir() for part in ("train", "test")):
        for path in sorted(source.iterdir()):
            if path.is_dir() and path.name.lower() in THIRD_PARTS:
                yield f"{path.name}/ is not read: train/ and test/ are, and validation is carved from train/"


def locate(source: Path) -> Path:
    """The CSV file, or the folder that holds train/ and test/, at `source` or one folder below it; else `source`."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"{source} does not exist; expected a folder with a folder a class, or fer2013.csv")
    for folder in (source, *sorted(path for path in source.iterdir() if path.is_dir())):
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return folder
        if (folder / "fer2013.csv").is_file():
            return folder / "fer2013.csv"
    for part, other in (("train", "test"), ("test", "train")):
        if (source / part).is_dir():
            raise DataError(f"{source} holds {part}/ and no {other}/; expected both, or a folder a class alone")
    return source


def fingerprint(source: Path, *, skip_bad: bool) -> str:
    """A key that changes when any file's name, size or time does; reading 35,887 files to hash them takes seconds."""
    lines = sorted(stat_lines(source))
    # A change of the cached layout must change this word.
    return hashlib.sha256("\n".join([f"layout 3 {source.name} {skip_bad}", *lines]).encode()).hexdigest()[:32]


def stat_lines(source: Path) -> Iterator[str]:
    if source.is_file():
        yield f"{source.stat().st_size} {source.stat().st_mtime_ns}"
        return
    for part, folder in class_folders(source):
        with os.scandir(source / part / folder) as entries:
            for entry in entries:
                # A link to nothing is a bad file, which decoding will name.
                stat = entry.stat(follow_symlinks=os.path.exists(entry.path))  # noqa: PTH110
                yield f"{part}/{folder}/{entry.name} {stat.st_size} {stat.st_mtime_ns}"


def class_folders(source: Path) -> list[tuple[str, str]]:
    """The (part, folder) pairs below `source`: ("train", "angry"), …; the part is "" where there is none."""
    parts = ("train", "test") if (source / "train").is_dir() and (source / "test").is_dir() else ("",)
    return [
        (part, path.name)
        for part in parts
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
            classes=np.array(dataset.classes, dtype=str),
            skipped=np.array(dataset.skipped, dtype=str),
            notes=np.array(dataset.notes, dtype=str),
        )


def read_cache(path: Path) -> Dataset | None:
    """What `write_cache` kept; None where there is nothing, or something that cannot be read any more."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            columns = [arrays[name] for name in ("images", "labels", "names", "usage")]
            lines = [tuple(arrays[name].tolist()) for name in ("classes", "skipped", "notes")]
            return Dataset(*columns, *lines)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


@dataclass(frozen=True)
class Tree:
    """A folder tree: its parts ("" where there are none), its classes, and the folder of each that it has.

    own: whether it is the user's, with pictures of any size, and not FER2013.
    """

    source: Path
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    folders: Mapping[tuple[str, str], str]
    own: bool


def read_tree(source: Path) -> Tree:
    """What the folders below `source` are."""
    found = class_folders(source)
    parts = tuple(dict.fromkeys(part for part, _ in found))
    if parts != ("",) and is_fer2013(source, found):
        folders = {(part, SPELLINGS[folder.lower()]): f"{part}/{folder}" for part, folder in found}
        if twice := {f"{part}/{folder}" for part, folder in found} - set(folders.values()):
            raise DataError(
                f"{source} has {min(twice)} and a folder of the same class; expected one a class: join them"
            )
        return Tree(source, ("train", "test"), EMOTIONS, folders, own=False)
    classes = tuple(sorted({folder for _, folder in found}))
    check_classes(source, classes)
    return Tree(source, parts, classes, {(part, name): f"{part}/{name}".lstrip("/") for part, name in found}, own=True)


def is_fer2013(source: Path, folders: Sequence[tuple[str, str]]) -> bool:
    """Whether the folders are those of its seven classes, unless most of their first pictures have another size."""
    if {SPELLINGS.get(folder.lower()) for _, folder in folders} != set(EMOTIONS):
        return False
    sizes = []
    for part, folder in folders:
        for name in sorted_by_number(source / part / folder)[:1]:
            with suppress(DataError), opened(source / part / folder / name) as picture:
                sizes.append(picture.size)
    return 2 * sizes.count((SIZE, SIZE)) >= len(sizes)


def check_classes(source: Path, classes: tuple[str, ...]) -> None:
    fewest, most = CLASSES
    if not fewest <= len(classes) <= most:
        number = f"{len(classes)} class{'' if len(classes) == 1 else 'es'}"
        few = ", ".join((*classes[:3], *(["…"] if len(classes) > 3 else [])))
        raise DataError(
            f"{source} has {number}{f' ({few})' if few else ''}; expected {fewest} to {most}: "
            "a folder of images for each, in the folder itself or in train/ and test/"
        )


def load_folder(source: Path, *, skip_bad: bool, track: Track) -> Dataset:
    """Decode the images below `source`; FER2013's class folders may use any of SPELLINGS."""
    tree = read_tree(source)
    names, labels, skipped = list_images(tree)
    if skipped and not skip_bad:
        raise DataError(f"{skipped[0]}; {LEAVE_OUT}")
    images = np.empty((len(names), SIZE, SIZE, 1), np.uint8)
    good, changed = np.ones(len(names), bool), 0
    # One thread: Pillow holds the interpreter lock for most of so small a picture, and threads only queue for it.
    for row, name in enumerate(track(names, "decoding faces")):
        try:
            with opened(source / name) as picture:
                images[row] = to_face(picture) if tree.own else require_face(picture)
                changed += tree.own and (picture.mode, picture.size) != ("L", (SIZE, SIZE))
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{error}; {LEAVE_OUT}") from error
            skipped.append(str(error))
            good[row] = False
    kept, labels = np.array(names, dtype=str)[good], labels[good]
    usage = own_usage_of(kept) if tree.own else usage_of(kept, labels)
    notes = (f"{changed:,} of {len(kept):,} pictures were made {SIZE}×{SIZE} and grey",) if changed else ()
    dataset = Dataset(images[good], labels, kept, usage, tree.classes, tuple(skipped), notes)
    return finish_own(dataset, tree) if tree.own else dataset


def list_images(tree: Tree) -> tuple[list[str], Labels, list[str]]:
    """Names and labels of the files of `tree`, by part, class and number; and a line for each class that has none."""
    names: list[str] = []
    labels: list[int] = []
    missing: list[str] = []
    for part, (label, name) in product(tree.parts, enumerate(tree.classes)):
        folder = tree.folders.get((part, name))
        files = sorted_by_number(tree.source / folder) if folder else []
        if not files:
            fault = "has no images" if folder else "is missing"
            wanted = "images of any size" if tree.own else "48×48 grey images"
            missing.append(f"{tree.source / (folder or f'{part}/{name}')} {fault}; expected a folder of {wanted}")
        names += [f"{folder}/{file}" for file in files]
        labels += [label] * len(files)
    return names, np.array(labels, dtype=np.int64), missing


def own_usage_of(names: Names) -> Names:
    """Test for what lies in test/, Training for the rest."""
    return np.where(np.char.startswith(names, "test/"), TEST, TRAINING)


def finish_own(dataset: Dataset, tree: Tree) -> Dataset:
    """A folder of one's own without the classes that nothing can be learned of, and with a test part."""
    dataset = leave_out_empty(dataset)
    check_classes(tree.source, dataset.classes)
    return dataset if tree.parts != ("",) else carve_test(dataset)


def leave_out_empty(dataset: Dataset) -> Dataset:
    """Without the classes that have no training image, and a line for each; the other labels are counted anew."""
    kept = np.flatnonzero(dataset.training.counts())
    if len(kept) == len(dataset.classes):
        return dataset
    rest = dataset.take(np.flatnonzero(np.isin(dataset.labels, kept)))
    gone = [name for label, name in enumerate(dataset.classes) if label not in kept]
    return replace(
        rest,
        labels=np.searchsorted(kept, rest.labels),
        classes=tuple(dataset.classes[label] for label in kept),
        skipped=(*dataset.skipped, *(f"the class {name} has no training image, and is left out" for name in gone)),
    )


def carve_test(dataset: Dataset) -> Dataset:
    """With TEST_SHARE of each class set aside for testing; images with equal pixels stay on one side."""
    groups, chance = image_hashes(dataset.images), np.random.default_rng(TEST_SEED)
    test = stratified_groups(dataset.labels, groups, share=TEST_SHARE, rng=chance)
    tested = np.bincount(dataset.labels[test], minlength=len(dataset.classes))
    if not tested.all():
        label = int(tested.argmin())
        raise DataError(
            f"{dataset.classes[label]} has {dataset.counts()[label]} images, too few different ones to set some aside "
            "for testing; expected 5 or more, or train/ and test/ with a folder a class in each"
        )
    usage = np.full(len(dataset), TRAINING)
    usage[test] = TEST
    note = f"{CARVED} {len(test):,} of {len(dataset):,} pictures are set aside to test on, always the same"
    # In the order of a tree with both parts.
    order = np.argsort(usage == TEST, kind="stable")
    return replace(dataset, usage=usage, notes=(*dataset.notes, note)).take(order)


def sorted_by_number(folder: Path) -> list[str]:
    """File names in `folder`: im2.png before im10.png, hidden files left out."""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(names, key=lambda name: (len(name), name))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture at `path`; whatever is wrong with it inside the block is a DataError that names it."""
    try:
        with Image.open(path) as picture:
            yield picture
    except DataError as error:
        raise DataError(f"{path} {error}") from error
    except (UnidentifiedImageError, IsADirectoryError) as error:
        raise DataError(f"{path} is not an image; expected a PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); expected a whole image") from error


def require_face(picture: Image.Image) -> Image48:
    """A picture that must be 48×48 and grey, uint8 (48, 48, 1)."""
    if picture.mode != "L":
        raise DataError(f"is a colour image (mode {picture.mode}); expected grey (mode L)")
    if picture.size != (SIZE, SIZE):
        raise DataError(f"is {picture.width}×{picture.height} pixels; expected {SIZE}×{SIZE}")
    return np.asarray(picture)[..., np.newaxis]


def to_face(picture: Image.Image) -> Image48:
    """The middle square of a picture, as its camera meant it up, made 48×48 and grey: uint8 (48, 48, 1)."""
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"has more than 8 bits a channel (mode {picture.mode}); expected an 8-bit image")
    # As mien.inference does with a picture that is a face: what is learned and what is read must be made alike.
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("L").crop((left, top, left + side, top + side))
    face = square.resize((SIZE, SIZE), Image.Resampling.BOX if side > SIZE else Image.Resampling.BILINEAR)
    return np.asarray(face)[..., np.newaxis]


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
    try:
        with source.open(newline="", encoding="utf-8") as file:
            lines = max(sum(1 for _ in file) - 1, 0)
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no text; expected fer2013.csv, or a folder with a folder a class") from error
    images = np.empty((lines, SIZE, SIZE, 1), np.uint8)
    places: list[tuple[int, int, str]] = []
    counts: Counter[tuple[bool, int]] = Counter()
    skipped: list[str] = []
    with source.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"emotion", "pixels", "Usage"} <= set(rows.fieldnames):
            raise DataError(f"{source} has columns {rows.fieldnames}; expected emotion, pixels and Usage")
        for line, row in zip(
            track([str(line) for line in range(2, lines + 2)], "decoding faces"), readable(rows, source), strict=False
        ):
            try:
                label, usage = parse_place(row)
                # A row with bad pixels keeps its number: the names of those after it must not move.
                number = counts[usage == TRAINING, label]
                counts[usage == TRAINING, label] += 1
                images[len(places)] = parse_pixels(row["pixels"] or "")
                places.append((label, number, usage))
            except DataError as error:
                if not skip_bad:
                    raise DataError(f"{source}, line {line}: {error}; {LEAVE_OUT}") from error
                skipped.append(f"{source}, line {line}: {error}")
    if not places:
        raise DataError(f"{source} has no usable row; expected FER2013's emotion, pixels and Usage")
    labels, numbers, usages = zip(*places, strict=True)
    return images[: len(places)], np.array(labels, np.int64), np.array(numbers, np.int64), np.array(usages), skipped


def readable(rows: "csv.DictReader[str]", source: Path) -> Iterator[dict[str, str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise DataError(f"{source}, line {rows.line_num}: {error}; expected every quote to be closed") from error


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
    except (ValueError, OverflowError) as error:
        raise DataError(f"pixels are not whole numbers ({error}); expected {SIZE * SIZE} of 0 to 255") from error
    if len(pixels) != SIZE * SIZE:
        raise DataError(f"there are {len(pixels)} pixels; expected {SIZE * SIZE}")
    if pixels.min() < 0 or pixels.max() > 255:
        raise DataError(f"pixels go from {pixels.min()} to {pixels.max()}; expected 0 to 255")
    return pixels.astype(np.uint8).reshape(SIZE, SIZE, 1)
