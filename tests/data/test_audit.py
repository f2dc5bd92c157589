import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from mien.data import audit as auditing
from mien.data.audit import (
    DETAIL,
    FLOOR,
    REACH,
    Audit,
    audit,
    components,
    details,
    group_rows,
    match,
    write_csv,
)
from mien.data.dataset import Dataset, load_dataset
from mien.emotions import EMOTIONS


def blobs(count: int, *, seed: int, size: int = 48):
    """Smooth random pictures, uint8 (count, size, size): noise of 8 × 8 grey levels, enlarged."""
    noise = np.random.default_rng(seed).integers(30, 220, (count, 8, 8), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in noise])


def dataset_of(pixels, labels=None, usage=None) -> Dataset:
    count = len(pixels)
    return Dataset(
        images=np.asarray(pixels, dtype=np.uint8).reshape(count, 48, 48, 1),
        labels=np.zeros(count, dtype=np.int64) if labels is None else np.array(labels),
        names=np.array([f"part/class/im{number}.png" for number in range(count)]),
        usage=np.array(["Training"] * count if usage is None else usage),
    )


def with_planted(picture, *, usage="PrivateTest") -> Dataset:
    """Sixty unrelated training images, the sixth of which a test image at the end repeats as `picture`."""
    return dataset_of([*blobs(60, seed=1), picture], usage=["Training"] * 60 + [usage])


def shift(pixels, down: int, right: int):
    return np.roll(pixels, (down, right), axis=(0, 1))


ORIGINAL = blobs(60, seed=1)[5]
TWISTED = np.asarray(Image.fromarray(ORIGINAL).rotate(2, Image.Resampling.BICUBIC))
NEAR_COPIES = {
    "mirror": ("mirror", ORIGINAL[:, ::-1]),
    "mirror and shift": ("mirror", shift(ORIGINAL[:, ::-1], 1, -2)),
    "shift": ("shifted", shift(ORIGINAL, 2, -2)),
    "shift by a pixel": ("shifted", shift(ORIGINAL, 0, 1)),
    "brightness": ("light", ORIGINAL + 30),
    "contrast": ("light", 80 + ORIGINAL // 2),
    "rotation": ("altered", TWISTED),
    "noise": ("altered", np.clip(ORIGINAL + np.random.default_rng(0).normal(0, 8, (48, 48)), 0, 255)),
}


@pytest.mark.parametrize(("kind", "picture"), NEAR_COPIES.values(), ids=NEAR_COPIES)
def test_a_near_copy_across_splits_is_found_and_named(kind, picture):
    found = audit(with_planted(picture))
    assert found.near_groups == ((5, 60),)
    assert found.near_kinds == (kind,)
    assert found.near_leaks.tolist() == [60]
    assert found.groups[5] == found.groups[60]
    assert not found.exact_groups
    assert not len(found.leaks)


def test_an_exact_copy_across_splits_is_a_leak_and_no_near_copy():
    found = audit(with_planted(ORIGINAL))
    assert found.exact_groups == ((5, 60),)
    assert found.leaks.tolist() == [60]
    assert not found.near_groups
    assert not len(found.near_leaks)


def test_a_copy_within_training_leaks_nothing():
    found = audit(with_planted(ORIGINAL, usage="Training"))
    assert found.exact_groups == ((5, 60),)
    assert not len(found.leaks)


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_images_are_no_copies(seed):
    found = audit(dataset_of(blobs(300, seed=seed)))
    assert not found.near_groups
    assert found.groups.tolist() == list(range(300))


def test_drawn_faces_are_no_copies(drawn):
    found = audit(drawn)
    assert not found.near_groups
    assert not found.exact_groups


def test_chains_and_exact_copies_are_one_group():
    once, twice = shift(ORIGINAL, 0, 2), shift(ORIGINAL, 0, 4)
    found = audit(dataset_of([*blobs(10, seed=1), twice, once, once, ORIGINAL]))
    assert found.near_groups == ((5, 10, 11, 12, 13),)
    assert found.exact_groups == ((5, 13), (11, 12))
    assert len(set(found.groups[[5, 10, 11, 12, 13]].tolist())) == 1


def test_identical_images_with_several_labels_are_conflicts():
    pictures = blobs(3, seed=2)
    found = audit(dataset_of(pictures[[0, 0, 1, 1, 2]], labels=[3, 4, 5, 5, 6]))
    assert found.exact_groups == ((0, 1), (2, 3))
    assert found.conflicts == ((0, 1),)


def test_blank_images_are_listed_apart():
    black, grey = np.zeros((48, 48)), np.full((48, 48), 128)
    grey[0, :9] = 131
    pictures = [*blobs(2, seed=3), black, black, grey]
    found = audit(dataset_of(pictures, usage=["Training"] * 3 + ["PublicTest"] * 2))
    assert found.blanks.tolist() == [2, 3, 4]
    assert not found.exact_groups
    assert not len(found.leaks)
    assert found.groups[2] == found.groups[3]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_no_trouble(count):
    assert audit(dataset_of(blobs(2, seed=5)[:count])).figures["images"] == count


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 6), max_size=30))
def test_exact_groups_part_the_images_by_their_pixels(choice):
    pictures = blobs(7, seed=6)
    found = audit(dataset_of(pictures[np.array(choice, dtype=np.int64)]))
    assert sorted(row for group in found.exact_groups for row in group) == [
        row for row, picture in enumerate(choice) if choice.count(picture) > 1
    ]
    assert all(len({choice[row] for row in group}) == 1 for group in found.exact_groups)
    assert len({choice[group[0]] for group in found.exact_groups}) == len(found.exact_groups)
    assert found.figures["redundant_copies"] == sum(choice.count(one) - 1 for one in set(choice))
    assert found.groups.tolist() == [choice.index(picture) for picture in choice]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_components_are_what_chains_of_pairs_join(pairs):
    members = [{row} for row in range(20)]
    for one, two in pairs:
        joined = members[one] | members[two]
        for row in joined:
            members[row] = joined
    found = components(20, np.array(pairs, dtype=np.int64).reshape(-1, 2))
    assert found.tolist() == [min(group) for group in members]


def test_details_are_scipys_gaussians_evened_out():
    pixels = blobs(3, seed=7)

    def blur(values, sigma):
        """SciPy's filter with what lies outside the image left out, as `details` leaves it out."""
        weigh = {"sigma": (0, sigma, sigma), "mode": "constant", "radius": (0, 48, 48)}
        return gaussian_filter(values, **weigh) / gaussian_filter(np.ones_like(values), **weigh)

    values = pixels.astype(float)
    band = blur(values, DETAIL[0]) - blur(values, DETAIL[1])
    expected = band / np.sqrt(blur(band**2, DETAIL[1]) + FLOOR**2)
    assert details(pixels) == pytest.approx(expected, abs=1e-4)


def test_match_is_the_best_correlation_over_all_shifts():
    ones, twos = details(blobs(4, seed=8)), details(blobs(4, seed=9))
    twos[0] = np.roll(ones[0], (-1, 2), axis=(0, 1))
    middle = slice(REACH, 48 - REACH)
    shifts = [(y, x) for y in range(-REACH, REACH + 1) for x in range(-REACH, REACH + 1)]

    def correlation(one, two, down, right):
        moved = two[REACH + down : 48 - REACH + down, REACH + right : 48 - REACH + right]
        return np.corrcoef(one[middle, middle].ravel(), moved.ravel())[0, 1]

    expected = [[correlation(one, two, *by) for by in shifts] for one, two in zip(ones, twos, strict=True)]
    scores, found = match(ones, twos)
    assert scores == pytest.approx(np.max(expected, axis=1), abs=1e-5)
    assert found.tolist() == [list(shifts[best]) for best in np.argmax(expected, axis=1)]
    assert (scores[0], found[0].tolist()) == (pytest.approx(1), [-1, 2])


@pytest.fixture
def flawed() -> tuple[Audit, Dataset]:
    """Two conflicting copies, two agreeing ones across splits, a mirrored test image and a blank one."""
    pictures = blobs(4, seed=10)
    dataset = dataset_of(
        [*pictures[[0, 0, 1, 1, 2]], pictures[2][:, ::-1], np.zeros((48, 48)), pictures[3]],
        labels=[0, 1, 2, 2, 3, 3, 4, 5],
        usage=["Training", "Training", "Training", "PublicTest", "Training", "PrivateTest", "Training", "Training"],
    )
    return audit(dataset), dataset


def test_json_holds_every_group_and_figure(flawed):
    found = json.loads(json.dumps(flawed[0].to_dict()))
    assert found["groups"] == [
        {"kind": "conflicting", "rows": [0, 1]},
        {"kind": "identical", "rows": [2, 3]},
        {"kind": "mirror", "rows": [4, 5]},
        {"kind": "blank", "rows": [6]},
    ]
    assert found["leaks"] == [3]
    assert found["near_leaks"] == [5]
    assert found["near_kinds"] == {"mirror": 1}
    assert found["class_counts"]["PublicTest"]["fearful"] == 1
    assert found["figures"] == {
        "images": 8,
        "identical_groups": 2,
        "redundant_copies": 2,
        "conflicting_groups": 1,
        "leaked_test_images": 1,
        "near_groups": 1,
        "near_leaked_test_images": 1,
        "blank_images": 1,
    }


def test_csv_holds_a_line_for_each_image_of_a_group(flawed, tmp_path):
    path = tmp_path / "groups.csv"
    write_csv(*flawed, path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row.values()) for row in rows] == [tuple(map(str, row)) for row in group_rows(*flawed)]
    assert list(rows[0]) == ["group", "kind", "name", "class", "usage"]
    assert rows[-1] == {
        "group": "4",
        "kind": "blank",
        "name": "part/class/im6.png",
        "class": EMOTIONS[4],
        "usage": "Training",
    }


def test_a_failed_csv_leaves_the_old_one(flawed, tmp_path, monkeypatch):
    path = tmp_path / "groups.csv"
    path.write_text("old")

    def fail(*_):
        yield (1, "identical", "a", "happy", "Training")
        raise OSError("disk full")

    monkeypatch.setattr(auditing, "group_rows", fail)
    with pytest.raises(OSError, match="disk full"):
        write_csv(*flawed, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.fer2013
def test_fer2013_has_the_flaws_that_are_known(fer2013):
    dataset = load_dataset(fer2013)
    found = audit(dataset)
    assert found.figures == {
        "images": 35_887,
        "identical_groups": 1_513,
        "redundant_copies": 1_840,
        "conflicting_groups": 56,
        "leaked_test_images": 567,
        "near_groups": pytest.approx(1_561, abs=5),
        "near_leaked_test_images": pytest.approx(646, abs=5),
        "blank_images": 13,
    }
