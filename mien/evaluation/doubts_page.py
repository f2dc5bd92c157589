"""Doubts and their Dataset in, one self-contained HTML page out: the labels most likely wrong, with their pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mien.data.dataset import Dataset
from mien.evaluation.report import pages

SHOWN = 100  # pictures of the most doubtful labels


@dataclass(frozen=True)
class Doubt:
    """One image whose label is likely wrong: `index` into its data set; how sure, 0..1, of the label and of another."""

    index: int
    name: str
    labelled: str
    suggested: str
    self_confidence: float
    suggested_confidence: float


class ClassDoubts(NamedTuple):
    """One class: its images, those in doubt, and the class most of these are read as, if there are any."""

    name: str
    images: int
    doubtful: int
    suggested: str | None


def doubts_page(doubts: Sequence[Doubt], dataset: Dataset) -> str:
    """The page; it shows the first SHOWN of `doubts`, the most doubtful, and counts all of them."""
    return (
        pages()
        .get_template("doubts.html.jinja")
        .render(
            images=len(dataset),
            doubts=len(doubts),
            classes=count_doubts(doubts, dataset),
            shown=[(doubt, dataset.images[doubt.index]) for doubt in doubts[:SHOWN]],
        )
    )


def count_doubts(doubts: Sequence[Doubt], dataset: Dataset) -> list[ClassDoubts]:
    """How many labels of each class are in doubt."""
    suggested = {
        name: Counter(doubt.suggested for doubt in doubts if doubt.labelled == name) for name in dataset.classes
    }
    return [
        ClassDoubts(name, images, suggested[name].total(), next((to for to, _ in suggested[name].most_common(1)), None))
        for name, images in zip(dataset.classes, dataset.counts().tolist(), strict=True)
    ]
