"""An Audit and its Dataset in, one self-contained HTML page out: the counts, and the pictures side by side."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from mien.data.audit import NEAR, REACH, Audit, Group
from mien.data.dataset import TRAINING, Dataset
from mien.emotions import Image48
from mien.evaluation.report import pages

GROUPS = 24  # groups shown of each fault
FACES = 10  # images shown of each group

NEAR_KINDS = {
    "mirror": "mirrored",
    "shifted": "moved by a pixel or two",
    "light": "brighter, darker or of other contrast",
    "altered": "resized or retouched",
}

# Title, note, kinds of groups, and whether these span training and test (None: either), the gravest fault first.
SECTIONS = (
    (
        "One picture, several labels",
        "Equal pixels, filed under different classes: no model can be right about all of them.",
        ("conflicting",),
        None,
    ),
    (
        "Test images that training has too",
        "A model may know these by heart; a score without them is the one that shows skill.",
        ("conflicting", "identical"),
        True,
    ),
    (
        "Nearly the same picture, across training and test",
        "Pixels differ, the picture does not. A chain of such pairs makes a group.",
        tuple(NEAR_KINDS),
        True,
    ),
    (
        "The same picture, several times within one part",
        "Equal pixels under one label. They count more often than others, and a random split for validation would part them.",
        ("identical",),
        False,
    ),
    (
        "Nearly the same picture, within one part",
        "They leak nothing into the test, but a random split for validation would part them.",
        tuple(NEAR_KINDS),
        False,
    ),
    (
        "Nothing to see",
        "Images so even that they show no face, whatever their label says.",
        ("blank",),
        None,
    ),
)

Item = TypeVar("Item")


class Face(NamedTuple):
    """One picture and what the data set says of it."""

    image: Image48
    name: str
    label: str
    usage: str


class Card(NamedTuple):
    """One group as the page shows it, and how many of its images it leaves out."""

    kind: str
    faces: list[Face]
    more: int


class Fault(NamedTuple):
    """A section of the page: some groups of all those with one fault."""

    title: str
    note: str
    cards: list[Card]
    total: int


def audit_page(audit: Audit, dataset: Dataset) -> str:
    """The page; each fault shows up to GROUPS groups, picked evenly over all of them, and says how many there are."""
    template = pages().get_template("audit.html.jinja")
    return template.render(
        figures=audit.figures,
        class_counts=audit.class_counts,
        classes=dataset.classes,
        test_images=int((dataset.usage != TRAINING).sum()),
        faults=list(find_faults(audit, dataset)),
        near_kinds=NEAR_KINDS,
        near=NEAR,
        reach=REACH,
    )


def find_faults(audit: Audit, dataset: Dataset) -> Iterator[Fault]:
    """The SECTIONS that have any group to show."""
    groups = list(audit.named_groups())
    for title, note, kinds, across in SECTIONS:
        found = [
            (kind, rows)
            for kind, rows in groups
            if kind in kinds and (across is None or straddles(rows, dataset) == across)
        ]
        if found:
            yield Fault(title, note, [deal(kind, rows, dataset) for kind, rows in pick(found, GROUPS)], len(found))


def straddles(rows: Group, dataset: Dataset) -> bool:
    """Whether the group has images on both sides, training and test."""
    return len(set((dataset.usage[list(rows)] == TRAINING).tolist())) == 2


def pick(items: Sequence[Item], most: int) -> list[Item]:
    """Up to `most` of the items, evenly spaced from first to last: a look at all of them, not at the first class alone."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]


def deal(kind: str, rows: Group, dataset: Dataset) -> Card:
    """The group's pictures, with what is known of each."""
    faces = [
        Face(
            image=dataset.images[row],
            name=str(dataset.names[row]),
            label=dataset.classes[dataset.labels[row]],
            usage=str(dataset.usage[row]),
        )
        for row in pick(rows, FACES)
    ]
    return Card(kind, faces, len(rows) - len(faces))
