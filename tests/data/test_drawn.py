"""Drawn faces: the same seed draws the same ones, classes are FER2013's, and expressions can be learnt from them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from mien.data.dataset import Dataset, image_hashes
from mien.data.drawn import (
    ACTION_UNITS,
    PROTOTYPES,
    TEST_COUNTS,
    TRAINING_COUNTS,
    UNPAINTED,
    Chance,
    People,
    Scene,
    Shape,
    Units,
    draw_brow,
    draw_dataset,
    draw_face,
    lids,
    mouth_edges,
    paint,
    pose,
    read_prototype,
    share_out,
)
from mien.emotions import EMOTIONS
from mien.errors import DataError

NUMBER = 20


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    return draw_dataset(training=1000, test=400, seed=5)


@pytest.fixture
def people() -> People:
    return People(Chance(NUMBER, np.random.default_rng(0)))


def only(*names: str) -> Units:
    """The named action units at full strength, every other at rest."""
    assert set(names) <= set(ACTION_UNITS.values())
    return {name: np.full((NUMBER, 1), float(name in names), np.float32) for name in ACTION_UNITS.values()}


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_emotion_can_be_drawn(emotion: str) -> None:
    face = draw_face(emotion, rng=np.random.default_rng(0))
    assert face.shape == (48, 48, 1)
    assert face.dtype == np.uint8
    assert face.std() > 10


def test_one_generator_draws_one_person_after_another() -> None:
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    first, second = draw_face("sad", rng=rng), draw_face("sad", rng=rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, draw_face("sad", rng=again))
    assert np.array_equal(second, draw_face("sad", rng=again))


def test_unknown_emotion_names_the_right_ones() -> None:
    with pytest.raises(DataError, match=r"'bored'.*angry, disgusted, fearful, happy, neutral, sad, surprised"):
        draw_face("bored", rng=np.random.default_rng(0))


def test_same_seed_gives_the_same_bytes() -> None:
    first, second = draw_dataset(training=60, test=20, seed=1), draw_dataset(training=60, test=20, seed=1)
    assert first.images.tobytes() == second.images.tobytes()
    assert first.sha256 == second.sha256


def test_seeds_and_parts_share_no_image(drawn: Dataset) -> None:
    other = draw_dataset(training=100, test=20, seed=6)
    hashes = [*image_hashes(drawn.images), *image_hashes(other.images)]
    assert len(set(hashes)) == len(hashes) == 1520


def test_a_part_does_not_depend_on_the_other(drawn: Dataset) -> None:
    smaller = draw_dataset(training=50, test=400, seed=5)
    assert np.array_equal(smaller.test.images, drawn.test.images)


def test_classes_are_as_unequal_as_in_fer2013(drawn: Dataset) -> None:
    assert drawn.training.counts().tolist() == [139, 15, 143, 251, 173, 168, 111]
    assert drawn.test.counts().sum() == 400
    assert share_out(28709, TRAINING_COUNTS).tolist() == list(TRAINING_COUNTS)
    assert share_out(7178, TEST_COUNTS).tolist() == list(TEST_COUNTS)


@given(st.integers(14, 50_000), st.sampled_from([TRAINING_COUNTS, TEST_COUNTS]))
def test_shares_add_up_and_leave_no_class_out(total: int, counts: tuple[int, ...]) -> None:
    shares = share_out(total, counts)
    exact = total * np.array(counts) / sum(counts)
    assert shares.sum() == total
    assert shares.min() >= 2
    if exact.min() >= 2:
        assert np.abs(shares - exact).max() < 1


@pytest.mark.parametrize("sizes", [{"training": 13}, {"test": 0}])
def test_too_few_images_for_two_of_each_class(sizes: dict[str, int]) -> None:
    with pytest.raises(DataError, match="expected 14 or more"):
        draw_dataset(**sizes)


def test_names_and_usage_say_part_and_class(drawn: Dataset) -> None:
    assert drawn.names[0] == "train/angry/im0.png"
    assert drawn.names[-1] == f"test/surprised/im{drawn.test.counts()[-1] - 1}.png"
    assert len(set(drawn.names)) == len(drawn)
    folders = {"Training": "train", "Test": "test"}
    for name, label, usage in zip(drawn.names, drawn.labels, drawn.usage, strict=True):
        assert name.startswith(f"{folders[usage]}/{EMOTIONS[label]}/im")


def test_brightness_and_contrast_are_like_photographs(drawn: Dataset) -> None:
    means, spreads = drawn.images.mean(axis=(1, 2, 3)), drawn.images.std(axis=(1, 2, 3))
    assert 100 < means.mean() < 150
    assert means.std() > 20
    assert means.min() > 15
    assert means.max() < 240
    assert 30 < spreads.mean() < 65
    assert spreads.min() > 8


def test_a_linear_classifier_learns_the_expressions(drawn: Dataset) -> None:
    def standardised(dataset: Dataset) -> Any:
        pixels = dataset.images.reshape(len(dataset), -1).astype(np.float32)
        return (pixels - pixels.mean(axis=1, keepdims=True)) / pixels.std(axis=1, keepdims=True)

    training, test = drawn.training, drawn.test
    classifier = RidgeClassifier(alpha=1000).fit(standardised(training), training.labels)
    majority = test.counts().max() / len(test)
    assert classifier.score(standardised(test), test.labels) > majority + 0.12


def test_notation_of_a_prototype_is_read() -> None:
    strengths = dict(zip(ACTION_UNITS, read_prototype("4E+5C+12A").tolist(), strict=True))
    assert {unit: strength for unit, strength in strengths.items() if strength} == pytest.approx(
        {4: 1, 5: 0.6, 12: 0.2}
    )


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_prototypes_hold_only_units_that_are_drawn(emotion: str) -> None:
    for formula in PROTOTYPES[emotion]:
        assert np.count_nonzero(read_prototype(formula)) == len([term for term in formula.split("+") if term])


def test_hard_shapes_are_painted_soft_ones_darken_and_hidden_ones_do_neither() -> None:
    left, top = np.array([[-1.1, 0, 0, -1.1]], np.float32), np.array([[-1.1, -1.1, 0, 0]], np.float32)
    shapes = [Shape(left, top, 200.0), Shape(-left, top, 0.7 * UNPAINTED), Shape(left, -top, 0.5, soft=True)]
    outlines = np.stack([np.hstack([shape.x for shape in shapes]), np.hstack([shape.y for shape in shapes])], axis=2)
    picture = paint(shapes, outlines, np.array([[100.0]], np.float32))[0]
    corners = picture[5, 5], picture[5, -5], picture[-5, 5], picture[-5, -5]
    assert corners == pytest.approx((200, 100, 50, 100), rel=0.02)


def test_a_turn_of_the_head_moves_the_nose_more_than_the_ears(people: People) -> None:
    scene = Scene(Chance(NUMBER, np.random.default_rng(0)))
    scene.yaw = np.full_like(scene.yaw, 0.3)
    scene.tilt = scene.nod = scene.right = scene.down = np.zeros_like(scene.yaw)
    x = np.hstack([0 * people.head_width, people.head_width])
    nose, ear = pose(x, np.hstack([people.nose_line, people.eye_line]), people, scene)[..., 0].T / scene.scale[:, 0]
    assert (nose > 0.15).all()
    assert (ear <= people.head_width[:, 0]).all()


def corner_below_middle(people: People, units: Units) -> Any:
    _, _, upper, lower, _ = mouth_edges(people, units)
    line = (upper + lower) / 2
    return (line[:, 0] + line[:, -1]) / 2 - line[:, line.shape[1] // 2]


def mouth_opening(people: People, units: Units) -> Any:
    _, _, upper, lower, _ = mouth_edges(people, units)
    return (lower - upper).max(axis=1)


def mouth_width(people: People, units: Units) -> Any:
    return np.ptp(mouth_edges(people, units)[0], axis=1)


def eye_opening(people: People, units: Units) -> Any:
    upper, lower = lids(people, units, np.zeros((1, 1), np.float32))
    return (lower - upper)[:, 0]


def brow_height(people: People, units: Units) -> Any:
    return -draw_brow(people, units, 1)[0].y.mean(axis=1)


@pytest.mark.parametrize(
    ("measure", "unit", "sign"),
    [
        (corner_below_middle, "lip_corner_depressor", 1),
        (corner_below_middle, "lip_corner_puller", -1),
        (mouth_opening, "lips_part", 1),
        (mouth_opening, "jaw_drop", 1),
        (mouth_width, "lip_stretcher", 1),
        (mouth_width, "lip_tightener", -1),
        (eye_opening, "upper_lid_raiser", 1),
        (eye_opening, "lid_tightener", -1),
        (brow_height, "inner_brow_raiser", 1),
        (brow_height, "outer_brow_raiser", 1),
        (brow_height, "brow_lowerer", -1),
    ],
)
def test_an_action_unit_does_what_its_name_says(
    people: People, measure: Callable[[People, Units], Any], unit: str, sign: int
) -> None:
    assert (sign * (measure(people, only(unit)) - measure(people, only())) > 0.005).all()
