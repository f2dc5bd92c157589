"""A Dataset in, an Audit out: copies, near copies, contradicting labels, blank images, and test images seen in training.

Near copies are proposed by a coarse signature and confirmed by pixels: two images are near copies when their details
correlate at NEAR or above once one of them may be mirrored and moved by up to REACH pixels. Details are what lies
between two Gaussian blurs, with its contrast evened out over the image: raw pixels of two strangers in like light
correlate at up to 0.94, and the outline of a head against its background at up to 0.93. Every distinct image meets
every other, in matrix products: time grows with the square of their number.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Num, Shaped, UInt8

from mien.data.dataset import TRAINING, Dataset, image_hashes
from mien.emotions import SIZE, Labels, Names
from mien.files import replacing

BLANK = 3.0  # grey levels: pixels whose standard deviation is below show nothing
NEAR = 0.90  # correlation of details; strangers in FER2013 reach 0.85, two drawn faces in millions of pairs 0.91
REACH = 2  # pixels a near copy may have moved along each axis
DETAIL = (0.7, 4.0)  # pixels: sigmas of the two blurs; finer is noise, coarser is lighting
FLOOR = 5.0  # grey levels: contrast below which an area counts as flat, so that its noise is not blown up

CANDIDATE = 0.88  # correlation of signatures; on FER2013 it lets through 99.7 % of the pairs that pixels confirm
SIGNATURE = (3.0, 8.0)  # pixels: sigmas of a signature's two blurs
EVERY_PIXEL = np.arange(float(SIZE))
SAMPLES = np.arange(6.5, SIZE - 6, 5.0)  # pixels: where a signature samples along each axis, off the edges
PROBES = tuple(product((-1.0, 1.0), repeat=2))  # no shift within REACH is more than a pixel from one of these

LIGHT = 0.8  # share of a squared difference that brightness and contrast must explain to be called its cause
KINDS = ("altered", "light", "shifted", "mirror")  # how near copies differ; the last that fits any two names a group

Group = tuple[int, ...]
Pixels = UInt8[np.ndarray, "n 48 48"]
Details = Float32[np.ndarray, "n 48 48"]
Samples = Float32[np.ndarray, "n rows columns"]
Positions = Float[np.ndarray, " positions"]  # pixels from the first pixel's centre
Weights = Float32[np.ndarray, "positions 48"]
Vectors = Float32[np.ndarray, "n size"]
Flags = Bool[np.ndarray, " n"]
Rows = Int64[np.ndarray, " _"]  # some of the images
Pairs = Int64[np.ndarray, "_ 2"]
Kinds = Int64[np.ndarray, " _"]  # of pairs, indices into KINDS
Scores = Float32[np.ndarray, " _"]
Shifts = Int64[np.ndarray, "_ 2"]  # pixels down and right


class GroupRow(NamedTuple):
    """One image of one group, as the CSV lists it."""

    group: int
    kind: str
    name: str
    label: str
    usage: str


@dataclass(frozen=True, eq=False)
class Audit:
    """What a data set repeats, contradicts and leaks. Groups hold ascending rows of the Dataset, at least two.

    class_counts: images by usage, then class. exact_groups: rows with equal pixels; conflicts: those among them with
    more than one label. near_groups: rows that show one picture in at least two versions, exact copies included;
    near_kinds: how, one of KINDS a group. blanks: near-constant images, in no group. leaks: test rows equal to a
    training image. near_leaks: further test rows in a near group with a training image. groups: equal numbers for
    images that must stay on one side of a split.
    """

    class_counts: dict[str, dict[str, int]]
    exact_groups: tuple[Group, ...]
    conflicts: tuple[Group, ...]
    near_groups: tuple[Group, ...]
    near_kinds: tuple[str, ...]
    blanks: Rows
    leaks: Rows
    near_leaks: Rows
    groups: Labels

    @property
    def figures(self) -> dict[str, int]:
        """The counts, each under its name."""
        return {
            "images": len(self.groups),
            "identical_groups": len(self.exact_groups),
            "redundant_copies": sum(len(group) - 1 for group in self.exact_groups),
            "conflicting_groups": len(self.conflicts),
            "leaked_test_images": len(self.leaks),
            "near_groups": len(self.near_groups),
            "near_leaked_test_images": len(self.near_leaks),
            "blank_images": len(self.blanks),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but `groups`, ready for JSON; images are rows of the Dataset."""
        return {
            "figures": self.figures,
            "near_kinds": dict(Counter(self.near_kinds)),
            "class_counts": self.class_counts,
            "thresholds": {"blank_deviation": BLANK, "near_correlation": NEAR, "reach_pixels": REACH},
            "leaks": self.leaks.tolist(),
            "near_leaks": self.near_leaks.tolist(),
            "groups": [{"kind": kind, "rows": list(rows)} for kind, rows in self.named_groups()],
        }

    def named_groups(self) -> Iterator[tuple[str, Group]]:
        """Every group and its kind: "conflicting", then "identical", then the near ones by KINDS, then "blank"."""
        conflicting = set(self.conflicts)
        yield from (("conflicting", group) for group in self.conflicts)
        yield from (("identical", group) for group in self.exact_groups if group not in conflicting)
        yield from zip(self.near_kinds, self.near_groups, strict=True)
        if len(self.blanks):
            yield "blank", tuple(self.blanks.tolist())


def audit(dataset: Dataset) -> Audit:
    """Find what `dataset` repeats, contradicts and leaks; see the module's text for what counts as a near copy."""
    first = first_equal(image_hashes(dataset.images))
    blank = is_blank(dataset.images[..., 0])
    distinct = np.flatnonzero((first == np.arange(len(first))) & ~blank)
    pairs, kinds = near_pairs(dataset.images[distinct, ..., 0])
    groups = components(len(dataset), distinct[pairs])[first]
    near_groups = together(groups, np.flatnonzero(np.isin(groups, groups[distinct[pairs]])))
    exact_groups = together(first, np.flatnonzero(~blank))
    training = dataset.usage == TRAINING
    leaked = ~training & ~blank & np.isin(first, first[training])
    near_leaked = ~training & ~blank & ~leaked & np.isin(groups, groups[training])
    return Audit(
        class_counts=dataset.describe()["counts"],
        exact_groups=exact_groups,
        conflicts=tuple(group for group in exact_groups if len(set(dataset.labels[list(group)].tolist())) > 1),
        near_groups=near_groups,
        near_kinds=name_groups(near_groups, groups, groups[distinct[pairs[:, 0]]], kinds),
        blanks=np.flatnonzero(blank),
        leaks=np.flatnonzero(leaked),
        near_leaks=np.flatnonzero(near_leaked),
        groups=groups,
    )


def group_rows(audit: Audit, dataset: Dataset) -> Iterator[GroupRow]:
    """Every image of every group, numbered from 1 in the order of `named_groups`; an image can be in two groups."""
    for number, (kind, rows) in enumerate(audit.named_groups(), start=1):
        for row in rows:
            label = dataset.classes[dataset.labels[row]]
            yield GroupRow(number, kind, str(dataset.names[row]), label, str(dataset.usage[row]))


def write_csv(audit: Audit, dataset: Dataset, path: Path) -> None:
    """Write one line for each image in a group: group, kind, name, class, usage."""
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("group", "kind", "name", "class", "usage"))
        writer.writerows(group_rows(audit, dataset))


def first_equal(hashes: Names) -> Labels:
    """The first row with the same hash, for each row."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    return first[inverse]


def is_blank(pixels: Pixels) -> Flags:
    """Whether the standard deviation of an image's pixels is below BLANK."""
    return np.concatenate([batch.std(axis=(1, 2), dtype=np.float32) < BLANK for batch in batches(pixels)])


def batches(array: np.ndarray, size: int = 1024) -> list[np.ndarray]:
    """The array in runs of about `size` rows, at least one."""
    return np.array_split(array, len(array) // size + 1)


def together(keys: Labels, rows: Rows) -> tuple[Group, ...]:
    """The groups of two or more of `rows` that share a key, in the order of their first rows."""
    rows = rows[np.argsort(keys[rows], kind="stable")]
    groups = np.split(rows, np.flatnonzero(np.diff(keys[rows])) + 1)
    return tuple(sorted(tuple(group.tolist()) for group in groups if len(group) > 1))


def components(count: int, pairs: Pairs) -> Labels:
    """The lowest row each of `count` rows is joined to by a chain of pairs."""
    lowest = np.arange(count)
    while True:
        joined = lowest.copy()
        np.minimum.at(joined, pairs, lowest[pairs].min(axis=1, keepdims=True))
        joined = joined[joined]
        if np.array_equal(joined, lowest):
            return lowest
        lowest = joined


def name_groups(near_groups: tuple[Group, ...], groups: Labels, pair_groups: Kinds, kinds: Kinds) -> tuple[str, ...]:
    """The last of KINDS that fits any pair of each near group."""
    strongest = np.zeros(len(groups), dtype=np.int64)
    np.maximum.at(strongest, pair_groups, kinds)
    return tuple(KINDS[strongest[groups[group[0]]]] for group in near_groups)


def near_pairs(pixels: Pixels) -> tuple[Pairs, Kinds]:
    """Pairs of near copies among distinct images, lower row first, and the index into KINDS of each."""
    fine = np.empty(pixels.shape, dtype=np.float32)
    for batch, space in zip(batches(pixels, 64), batches(fine, 64), strict=True):
        space[:] = details(batch)
    found = [confirm(fine, propose(pixels, mirror=mirror), mirror=mirror) for mirror in (False, True)]
    pairs, kinds = keep_best(*(np.concatenate(column) for column in zip(*found, strict=True)))
    still = np.flatnonzero(kinds == KINDS.index("altered"))
    lit = differs_in_light(pixels[pairs[still, 0]], pixels[pairs[still, 1]])
    kinds[still[lit]] = KINDS.index("light")
    return pairs, kinds


def keep_best(pairs: Pairs, scores: Scores, kinds: Kinds) -> tuple[Pairs, Kinds]:
    """Each pair once, with the kind of its highest score: a symmetric face also resembles its copy's mirror image."""
    best = np.lexsort((-scores, pairs[:, 1], pairs[:, 0]))
    pairs, kinds = pairs[best], kinds[best]
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[new], kinds[new]


def propose(pixels: Pixels, *, mirror: bool) -> Pairs:
    """Pairs i < j where the signature of image i (mirrored, if asked) under a probed shift agrees with image j's."""
    anchors = signatures(pixels, 0.0, 0.0)
    codes = [np.empty(0, dtype=np.int64)]
    for down, right in PROBES:
        probes = signatures(flip(pixels) if mirror else pixels, down, right)
        for start in range(0, len(probes), 512):
            agree = probes[start : start + 512] @ anchors[start:].T > CANDIDATE
            row, column = np.divmod(np.flatnonzero(agree), agree.shape[1])
            ordered = row < column
            codes.append((row[ordered] + start) * len(pixels) + column[ordered] + start)
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), max(len(pixels), 1)), axis=1)


def confirm(fine: Details, pairs: Pairs, *, mirror: bool) -> tuple[Pairs, Scores, Kinds]:
    """The proposed pairs whose details correlate at NEAR or above, with that correlation and the index into KINDS."""
    matches = [
        match(flip(fine[ones]) if mirror else fine[ones], fine[twos])
        for ones, twos in map(np.transpose, batches(pairs, 64))
    ]
    scores, shifts = (np.concatenate(column) for column in zip(*matches, strict=True))
    near = scores >= NEAR
    kinds = np.where(mirror, KINDS.index("mirror"), np.where(shifts[near].any(axis=1), KINDS.index("shifted"), 0))
    return pairs[near], scores[near], kinds


def flip(pixels: Shaped[np.ndarray, "n 48 48"]) -> Shaped[np.ndarray, "n 48 48"]:
    """Each image mirrored, left for right."""
    return pixels[:, :, ::-1]


def match(ones: Details, twos: Details) -> tuple[Scores, Shifts]:
    """The best correlation of each pair's details over all shifts within REACH, and the shift from ones to twos.

    The middle of the first image, REACH pixels from its edges, meets every window of that size in the second.
    """
    size, reach = SIZE - 2 * REACH, 2 * REACH + 1
    middle = unit(ones[:, REACH:-REACH, REACH:-REACH]).reshape(-1, size, size)
    offsets = list(product(range(reach), repeat=2))
    products = [np.einsum("nij,nij->n", middle, twos[:, y : y + size, x : x + size]) for y, x in offsets]
    inside = np.tri(SIZE, reach, dtype=np.float32).T - np.tri(SIZE, reach, -size, dtype=np.float32).T
    squares = inside @ (twos * twos) @ inside.T - (inside @ twos @ inside.T) ** 2 / size**2
    scores = np.stack(products, axis=1) / np.sqrt(squares.reshape(len(twos), reach**2).clip(1e-6))
    best = scores.argmax(axis=1)
    return scores.max(axis=1), np.array(offsets)[best] - REACH


def differs_in_light(ones: Pixels, twos: Pixels) -> Flags:
    """Whether a change of brightness and contrast explains a LIGHT share of the difference between two images."""
    difference = (ones.astype(np.float32) - twos) ** 2
    correlation = np.einsum("ij,ij->i", unit(ones), unit(twos))
    unexplained = (1 - correlation**2) * twos.var(axis=(1, 2), dtype=np.float32)
    lit: Flags = unexplained <= (1 - LIGHT) * difference.mean(axis=(1, 2))
    return lit


def signatures(pixels: Pixels, down: float, right: float) -> Vectors:
    """Eight by eight coarse samples of each image, taken this many pixels off."""
    samples = (band(batch, SAMPLES + down, SAMPLES + right, sigmas=SIGNATURE) for batch in batches(pixels))
    return np.concatenate([unit(batch) for batch in samples])


def details(pixels: Pixels) -> Details:
    """What each image shows between the blurs of DETAIL, as strong wherever it is (local contrast normalisation)."""
    values = band(pixels, EVERY_PIXEL, EVERY_PIXEL, sigmas=DETAIL)
    around = blur_weights(EVERY_PIXEL, DETAIL[1])
    values /= np.sqrt(around @ values**2 @ around.T + FLOOR**2)
    return values


def band(pixels: Pixels, rows: Positions, columns: Positions, *, sigmas: tuple[float, float]) -> Samples:
    """What a fine blur shows and a coarse one does not, at these positions: a difference of Gaussians."""
    values = pixels.astype(np.float32)
    fine, coarse = (blur_weights(rows, sigma) @ values @ blur_weights(columns, sigma).T for sigma in sigmas)
    between: Samples = fine - coarse
    return between


def blur_weights(positions: Positions, sigma: float) -> Weights:
    """What each of a line's pixels adds to its Gaussian blur at each position, cut off at the edges."""
    bell = np.exp(-0.5 * ((EVERY_PIXEL - positions[:, None]) / sigma) ** 2)
    weights: Weights = (bell / bell.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def unit(values: Num[np.ndarray, "n height width"]) -> Vectors:
    """Each item flattened to mean 0 and length 1, so that a product of two is their correlation."""
    flat = values.reshape(len(values), prod(values.shape[1:])).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)
    return flat
