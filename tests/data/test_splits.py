import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.data.balance import class_weights
from mien.data.dataset import TRAINING, Dataset, image_hashes, load_dataset
from mien.data.groups import stratified_groups
from mien.data.splits import find_leaks, split
from mien.errors import DataError


def test_no_name_or_pixel_is_in_two_parts(drawn):
    splits = split(drawn)
    parts = (splits.train, splits.validation, splits.test)
    assert sum(map(len, parts)) == len(drawn)
    assert len(set().union(*(part.names for part in parts))) == len(drawn)
    assert not set(image_hashes(splits.train.images)) & set(image_hashes(splits.validation.images))


def test_test_images_stay_as_they_came(drawn):
    assert split(drawn, seed=1).test.sha256 == split(drawn, seed=2).test.sha256 == drawn.test.sha256


def test_seed_decides(drawn):
    assert split(drawn, seed=3).to_dict() == split(drawn, seed=3).to_dict()
    assert split(drawn, seed=3).validation.sha256 != split(drawn, seed=4).validation.sha256


def test_every_class_is_shared_out_alike(drawn):
    splits = split(drawn, validation_share=0.25)
    shares = splits.validation.counts() / drawn.training.counts()
    assert np.all(np.abs(splits.validation.counts() - 0.25 * drawn.training.counts()) <= 1), shares


def test_copies_stay_on_one_side(drawn):
    training = drawn.training
    copies = training.take(np.concatenate([np.arange(len(training))] * 3))
    splits = split(copies)
    assert len(find_leaks(splits.train, splits.validation)) == 0
    assert 0.15 < len(splits.validation) / len(copies) < 0.25


def test_a_planted_leak_is_found(drawn):
    training, test = drawn.training, drawn.test
    images = test.images.copy()
    images[7] = training.images[11]
    leaky = Dataset(images, test.labels, test.names, test.usage)
    assert find_leaks(training, leaky).tolist() == [7]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20.0])
def test_share_out_of_range_is_refused(drawn, share):
    with pytest.raises(DataError, match="validation_share"):
        split(drawn, validation_share=share)


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=200),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 10),
)
def test_groups_are_never_divided(rows, share, seed):
    labels = np.array([label for label, _ in rows], dtype=np.int64)
    groups = np.array([f"{group}" for _, group in rows])
    chosen = stratified_groups(labels, groups, share=share, rng=np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(len(rows)), chosen)
    assert not set(groups[chosen]) & set(groups[rest])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=300))
def test_class_weights_sum_to_the_number_of_images(labels):
    labels = np.array([*range(7), *labels], dtype=np.int64)
    per_image = class_weights(np.eye(7, dtype=np.float32)[labels], classes=tuple("abcdefg"))[labels].astype(float)
    assert per_image.sum() == pytest.approx(len(labels))
    totals = [per_image[labels == label].sum() for label in range(7)]
    assert totals == pytest.approx([len(labels) / 7] * 7)


def test_class_weights_name_the_missing_class():
    with pytest.raises(DataError, match="disgusted"):
        class_weights(np.eye(3, dtype=np.float32)[[0, 0, 2]], classes=("angry", "disgusted", "fearful"))


def test_a_class_is_weighed_by_its_shares_of_soft_targets():
    targets = np.array([[0.5, 0.5, 0], [0.9, 0, 0.1], [0.7, 0.2, 0.1]], np.float32)
    weights = class_weights(targets, classes=("angry", "disgusted", "fearful"))
    assert targets.sum(axis=0) * weights == pytest.approx([1, 1, 1])


@pytest.mark.fer2013
def test_the_real_split(fer2013):
    dataset = load_dataset(fer2013)
    facts = split(dataset).to_dict()
    assert facts["validation_images_also_in_train"] == 0
    assert facts["train"]["images"] + facts["validation"]["images"] == np.sum(dataset.usage == TRAINING) == 28709
    assert abs(facts["validation"]["images"] / 28709 - 0.2) < 0.001


@pytest.mark.parametrize("seed", range(8))
def test_many_copies_of_one_image_leave_room_for_the_others(seed):
    groups = np.array([f"copy {max(0, row - 29)}" for row in range(100)])
    chosen = stratified_groups(np.zeros(100, int), groups, share=0.2, rng=np.random.default_rng(seed))
    assert len(chosen) == 20
    assert chosen.min() >= 30
