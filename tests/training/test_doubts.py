import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.data.dataset import Dataset, image_hashes
from mien.errors import DataError, RecipeError, RunError
from mien.training.doubts import deal_folds, find_doubts, out_of_fold, train_and_predict
from mien.training.runs import Run
from mien.training.teachers import Teachers

CLASSES = ("happy", "sad", "angry")


def dataset_of(labels, classes=CLASSES, images=None):
    labels = np.array(labels, dtype=np.int64)
    images = np.zeros((len(labels), 48, 48, 1), np.uint8) if images is None else images
    names = np.array([f"train/{classes[label]}/im{row}.png" for row, label in enumerate(labels)])
    return Dataset(images, labels, names, np.full(len(labels), "Training"), classes)


def test_a_case_worked_by_hand():
    labels = [0, 0, 1, 1, 1]
    probabilities = np.array(
        [
            [0.90, 0.05, 0.05],
            [0.30, 0.60, 0.10],  # reaches the threshold of sad, (0.6 + 0.5 + 0.1) / 3 = 0.4
            [0.30, 0.60, 0.10],
            [0.50, 0.50, 0.00],  # below that of happy, (0.9 + 0.3) / 2 = 0.6
            [0.80, 0.10, 0.10],
        ],
        np.float32,
    )
    first, second = find_doubts(dataset_of(labels), probabilities)
    assert (first.index, first.labelled, first.suggested) == (4, "sad", "happy")
    assert (first.self_confidence, first.suggested_confidence) == pytest.approx((0.1, 0.8))
    assert first.name == "train/sad/im4.png"
    assert (second.index, second.labelled, second.suggested) == (1, "happy", "sad")


def test_a_class_that_no_image_carries_is_never_suggested():
    probabilities = np.array([[0.2, 0.1, 0.7], [0.1, 0.2, 0.7]], np.float32)
    assert find_doubts(dataset_of([0, 1]), probabilities) == ()


@given(st.integers(0, 10_000))
def test_doubts_are_those_of_the_papers_formula(seed):
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 3, 30)
    probabilities = chance.dirichlet([0.7, 0.7, 0.7], 30).astype(np.float32)
    found = find_doubts(dataset_of(labels), probabilities)
    expected = {}
    for row, (label, chances) in enumerate(zip(labels, probabilities, strict=True)):
        confident = [
            other
            for other in range(3)
            if (labels == other).any() and chances[other] >= probabilities[labels == other, other].mean(dtype=float)
        ]
        counted_as = max(confident, key=lambda other: chances[other], default=label)
        if chances[counted_as] > chances[label]:
            expected[row] = CLASSES[counted_as]
    assert {doubt.index: doubt.suggested for doubt in found} == expected
    margins = [doubt.self_confidence - doubt.suggested_confidence for doubt in found]
    assert margins == sorted(margins)


def test_swapped_labels_are_found():
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 3, 900)
    labels = truth.copy()
    swapped = chance.choice(900, 60, replace=False)
    labels[swapped] = (truth[swapped] + 1) % 3
    logits = chance.normal(size=(900, 3)) + 5 * np.eye(3)[truth]
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    found = {doubt.index for doubt in find_doubts(dataset_of(labels), probabilities)}
    assert len(found & set(swapped.tolist())) >= 50
    assert found <= set(swapped.tolist())


def test_probabilities_that_do_not_fit_are_an_error():
    with pytest.raises(DataError, match="2 labels came with 1 rows"):
        find_doubts(dataset_of([0, 1]), np.ones((1, 3), np.float32) / 3)


def distinct(labels, copies=0):
    """A data set whose images all differ, but for the last `copies`, which repeat the first ones."""
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 48, 48, 1), np.uint8)
    if copies:
        images[-copies:] = images[:copies]
    return dataset_of(labels, images=images)


@settings(max_examples=20)
@given(folds=st.integers(2, 6), copies=st.integers(0, 20), seed=st.integers(0, 99))
def test_folds_share_out_each_class_and_keep_copies_together(folds, copies, seed):
    data = distinct([0] * 40 + [1] * 20 + [2] * 12, copies=copies)
    fold_of = deal_folds(data, folds=folds, seed=seed)
    assert sorted(set(fold_of.tolist())) == list(range(folds))
    assert len(set(zip(image_hashes(data.images).tolist(), fold_of.tolist(), strict=True))) == 72 - copies
    if not copies:
        for label, images in enumerate((40, 20, 12)):
            counts = np.bincount(fold_of[data.labels == label], minlength=folds)
            assert counts.sum() == images
            assert np.abs(counts - images / folds).max() <= 1


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(RecipeError, match="folds is 1; expected a whole number from 2"):
        deal_folds(distinct([0] * 10), folds=1, seed=0)
    with pytest.raises(DataError, match="3 images cannot fill 5 folds"):
        deal_folds(distinct([0] * 3), folds=5, seed=0)


@pytest.mark.parametrize("choice", ["targets=votes", "curriculum=pilot"])
def test_what_learns_from_more_than_labels_is_not_trained_in_folds(small, tmp_path, choice):
    recipe = small.override(choice)
    with pytest.raises(RecipeError, match=f"small has {choice}; expected a recipe that learns from labels alone"):
        out_of_fold(recipe, distinct([0] * 10), folder=tmp_path / "folds")
    with pytest.raises(RecipeError, match=f"small has {choice}"):
        Teachers((recipe,))
    assert not (tmp_path / "folds").exists()


def judge(images):
    """Probabilities that tell which image they are of."""
    first = images[:, 0, 0, 0].astype(np.float32) / 255
    return np.stack([first, 1 - first, 0 * first], axis=1)


class Learner:
    """Stands in for a training; it writes down what it was given, and may stop at a fold."""

    def __init__(self, stop_at=None):
        self.seen = []
        self.stop_at = stop_at

    def __call__(self, recipe, splits, path, watchers=()):
        if len(self.seen) == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(splits)
        return judge(splits.test.images)


def test_each_image_is_judged_once_by_a_learner_that_never_saw_it(small, tmp_path):
    data, learner = distinct([0, 1, 2] * 20, copies=6), Learner()
    found = out_of_fold(small, data, folder=tmp_path, train_fold=learner)
    np.testing.assert_array_equal(found, judge(data.images))
    assert sum(len(splits.test) for splits in learner.seen) == len(data)
    assert len(learner.seen) == 5
    for splits in learner.seen:
        known = np.concatenate([image_hashes(splits.train.images), image_hashes(splits.validation.images)])
        assert len(known) + len(splits.test) == len(data)
        assert not set(known.tolist()) & set(image_hashes(splits.test.images).tolist())


def test_an_interrupted_search_goes_on_with_the_fold_it_stopped_at(small, tmp_path):
    data, stopped, rest = distinct([0, 1, 2] * 20), Learner(stop_at=2), Learner()
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(small, data, folder=tmp_path, train_fold=stopped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-1.npy", "fold-2.npy", "folds.json"]
    found = out_of_fold(small, data, folder=tmp_path, train_fold=rest)
    np.testing.assert_array_equal(found, judge(data.images))
    assert len(rest.seen) == 3


def test_folds_of_something_else_are_not_taken_for_ones_own(small, tmp_path):
    data = distinct([0, 1, 2] * 20)
    out_of_fold(small, data, folder=tmp_path, train_fold=Learner())
    for recipe, images, folds in (
        (dataclasses.replace(small, seed=1), data, 5),
        (small, data.take(np.arange(59)), 5),
        (small, data, 4),
    ):
        with pytest.raises(RunError, match="holds folds of another recipe, number or data set"):
            out_of_fold(recipe, images, folder=tmp_path, folds=folds, train_fold=Learner())


def test_a_fold_is_trained_as_any_run_and_goes_on_where_it_stopped(small, splits, tmp_path, stop_after):
    recipe = dataclasses.replace(small, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train_and_predict(recipe, splits, tmp_path / "fold-1", watchers=(stop_after(1),))
    found = train_and_predict(recipe, splits, tmp_path / "fold-1")
    assert [row["epoch"] for row in Run.open(tmp_path / "fold-1").history()] == [1, 2]
    assert found.shape == (len(splits.test), 7)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(found[:, 0])) > 60
