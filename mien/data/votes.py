"""A file of FER+ annotator votes and a Dataset in, the votes in the Dataset's row order out.

FER+ (Barsoum et al. 2016, arXiv:1608.01041) asked ten annotators about each image of FER2013. Two files are read: one
that names each image by its `path` ("train/angry/im0.png"), and Microsoft's fer2013new.csv. The latter says neither
class nor number of an image; its rows follow those of fer2013.csv, so that file must be at hand to place them.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mien.data.dataset import CSV_EMOTIONS, SPELLINGS, TRAINING, Dataset
from mien.emotions import EMOTIONS, Indices, Labels, Probabilities
from mien.errors import DataError

ANSWERS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear"),
    *("contempt", "unknown", "not_face"),
)
MICROSOFT_ANSWERS = (*ANSWERS[:-1], "NF")

Counts = Int64[np.ndarray, "n 10"]
ClassVotes = Int64[np.ndarray, "n classes"]
Flags = Bool[np.ndarray, " n"]
Shares = Float32[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Votes:
    """How annotators labelled each image of a Dataset, in its row order.

    counts: votes for each of ANSWERS. matched: whether the file has votes known to be this image's; the other rows
    count none. `classes` below are any of the seven emotions; other answers never win and never count as a share.
    """

    counts: Counts
    matched: Flags

    def __len__(self) -> int:
        return len(self.counts)

    def of_classes(self, classes: Sequence[str] = EMOTIONS) -> ClassVotes:
        """The votes for each of `classes`, in that order."""
        names = [SPELLINGS.get(answer, answer) for answer in ANSWERS]
        if others := [name for name in classes if name not in names]:
            raise DataError(f"FER+ has no votes for {others[0]!r}; expected classes of {', '.join(names)}")
        return self.counts[:, [names.index(name) for name in classes]]

    def rated(self, classes: Sequence[str] = EMOTIONS) -> Flags:
        """Whether any vote went to `classes`: where not, an image has neither soft target nor majority."""
        rated: Flags = self.of_classes(classes).sum(axis=1) > 0
        return rated

    def soft_targets(self, classes: Sequence[str] = EMOTIONS) -> Probabilities:
        """Each class's share of the votes for `classes`; where not `rated`, all zero, which weighs nothing in a loss."""
        votes = self.of_classes(classes).astype(np.float32)
        votes /= votes.sum(axis=1, keepdims=True).clip(1)
        return votes

    def majority(self, classes: Sequence[str] = EMOTIONS) -> Labels:
        """The index into `classes` of the most voted one; -1 where several tie or none has a vote."""
        votes = self.of_classes(classes)
        winners = votes == votes.max(axis=1, keepdims=True)
        return np.where(winners.sum(axis=1) == 1, winners.argmax(axis=1), -1)

    def agreement(self, classes: Sequence[str] = EMOTIONS) -> Shares:
        """The share of all votes, contempt, unknown and not_face included, that the most voted of `classes` has."""
        shares: Shares = (self.of_classes(classes).max(axis=1) / self.counts.sum(axis=1).clip(1)).astype(np.float32)
        return shares


def load_votes(path: Path, dataset: Dataset, *, fer2013_csv: Path | None = None, partial: bool = False) -> Votes:
    """Join the votes at `path` to the images of `dataset` by name; votes for other images are passed over.

    `fer2013_csv`, or a file of that name beside `path`, places the rows of Microsoft's file. Rows whose column `exact` is 0, since their votes may be a
    neighbour's, stay unmatched; and so do images without votes if `partial`, which otherwise are a DataError.
    """
    rows = read_rows(path)
    microsoft = "NF" in rows[0]
    answers = MICROSOFT_ANSWERS if microsoft else ANSWERS
    require_columns(path, rows, ("Usage" if microsoft else "path", *answers))
    names = place_rows(path, rows, fer2013_csv) if microsoft else [row["path"] for row in rows]
    counts = np.array([parse_votes(f"{path}, line {line}", row, answers) for line, row in enumerate(rows, start=2)])
    exact = np.array([row.get("exact") != "0" for row in rows])
    found = find_rows(path, names, dataset, partial=partial)
    matched = (found >= 0) & exact[found]
    return Votes(np.where(matched[:, None], counts[found], 0), matched)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column name, at least one."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected a CSV file of votes") from error
    if not rows:
        raise DataError(f"{path} has no rows; expected a line of column names and a line of votes for each image")
    return rows


def require_columns(path: Path, rows: list[dict[str, str]], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; expected {', '.join(columns)}")


def parse_votes(where: str, row: dict[str, str], answers: Sequence[str]) -> list[int]:
    """The votes in one row, for each of `answers`."""
    texts = [row[answer] or "" for answer in answers]
    if not all(text.isdecimal() for text in texts):
        raise DataError(f"{where}: votes are {', '.join(map(repr, texts))}; expected whole numbers from 0")
    return [int(text) for text in texts]


def place_rows(path: Path, rows: list[dict[str, str]], fer2013_csv: Path | None) -> list[str]:
    """The path-like name of each row of Microsoft's file, which has the rows of `fer2013_csv` in the same order."""
    fer2013_csv = fer2013_csv or path.with_name("fer2013.csv")
    if not fer2013_csv.is_file():
        raise DataError(
            f"{path} names no image, its rows follow those of fer2013.csv; expected that file beside it, or as the data"
        )
    images = read_rows(fer2013_csv)
    require_columns(fer2013_csv, images, ("emotion", "Usage"))
    if [row["Usage"] for row in rows] != [row["Usage"] for row in images]:
        raise DataError(f"{path} has other rows than {fer2013_csv}; expected one for each image, in the same order")
    numbers: Counter[str] = Counter()
    names = []
    for line, row in enumerate(images, start=2):
        if row["emotion"] not in map(str, range(len(CSV_EMOTIONS))):
            raise DataError(f"{fer2013_csv}, line {line}: emotion is {row['emotion']!r}; expected 0 to 6")
        folder = f"{'train' if row['Usage'] == TRAINING else 'test'}/{CSV_EMOTIONS[int(row['emotion'])]}"
        names.append(f"{folder}/im{numbers[folder]}")
        numbers[folder] += 1
    return names


def find_rows(path: Path, names: list[str], dataset: Dataset, *, partial: bool) -> Indices:
    """The row of `names` that is each image of `dataset`, -1 for an image that has none."""
    rows = {spell(name): row for row, name in enumerate(names)}
    if len(rows) < len(names):
        raise DataError(f"{path} has votes for {len(rows)} images in {len(names)} rows; expected each image once")
    found = np.array([rows.get(spell(name), -1) for name in dataset.names.tolist()], dtype=np.int64)
    missing = dataset.names[found < 0].tolist()
    if missing and not (partial and len(missing) < len(dataset)):
        few = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(
            f"{path} has no votes for {len(missing)} of {len(dataset)} images ({few}); expected its paths to be theirs"
        )
    return found


def spell(name: str) -> str:
    """A name that spellings of its class and kinds of image file share: "train/Anger/im0.png" is "train/angry/im0"."""
    part, folder, file = ("//" + name).rsplit("/", 2)
    return f"{part.rsplit('/', 1)[-1]}/{SPELLINGS.get(folder.lower(), folder)}/{file.split('.')[0]}"
