from math import log

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mien.data.dataset import load_dataset
from mien.data.votes import ANSWERS, Votes, load_votes
from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.evaluation.annotators import BANDS, measure_votes


def make_votes(*images, unmatched=()):
    """Votes from one mapping of answers to counts an image."""
    counts = np.array([[image.get(answer, 0) for answer in ANSWERS] for image in images], dtype=np.int64)
    matched = np.array([row not in unmatched for row in range(len(images))])
    return Votes(np.where(matched[:, None], counts, 0), matched)


def predict(*images):
    """Probabilities from one mapping of classes to chances an image; the rest is shared out among the others."""
    rows = np.zeros((len(images), 7), np.float32)
    for row, image in zip(rows, images, strict=True):
        row[:] = (1 - sum(image.values())) / (7 - len(image))
        for name, chance in image.items():
            row[EMOTIONS.index(name)] = chance
    return rows


def test_the_figures_of_four_images_worked_by_hand():
    votes = make_votes(
        {"happiness": 10},
        {"sadness": 6, "neutral": 2, "unknown": 2},
        {"anger": 5, "sadness": 5},  # a tie: no majority, but a divergence
        {"happiness": 7, "contempt": 3},
    )
    found = measure_votes(
        votes,
        predict({"happy": 0.5}, {"sad": 0.6, "neutral": 0.2}, {"angry": 0.25, "sad": 0.25}, {"sad": 0.5, "happy": 0.2}),
        classes=EMOTIONS,
    )
    assert found.images == 4
    assert found.accuracy.value == pytest.approx(2 / 3)
    divergences = [log(1 / 0.5), 0.75 * log(0.75 / 0.6) + 0.25 * log(0.25 / 0.2), log(0.5 / 0.25), log(1 / 0.2)]
    assert found.divergence == pytest.approx(sum(divergences) / 4, abs=1e-6)
    values = {words: estimate.value for words, estimate in found.by_agreement.items()}
    assert values == {"6 or 7 of 10 agree": 0.5, "all 10 agree": 1.0}


def test_intervals_are_wilsons():
    votes = make_votes(*[{"happiness": 10}] * 10)
    found = measure_votes(votes, predict(*[{"happy": 0.9}] * 7, *[{"sad": 0.9}] * 3), classes=EMOTIONS)
    # Newcombe's closed form for 7 of 10 at z = 1.95996.
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((0.39678, 0.89221), abs=1e-5)


@pytest.mark.parametrize("agreeing", range(2, 11))
def test_agreement_is_counted_in_tenths_of_all_votes(agreeing):
    rest = 10 - agreeing
    others = {"contempt": rest // 2, "not_face": rest - rest // 2}
    found = measure_votes(make_votes({"happiness": agreeing, **others}), predict({"happy": 1.0}), classes=EMOTIONS)
    band = next(words for words, most in zip(BANDS, (5, 7, 9, 10), strict=True) if agreeing <= most)
    assert list(found.by_agreement) == [band]


def test_images_whose_votes_are_unknown_or_name_no_class_count_nowhere():
    votes = make_votes({"happiness": 10}, {"happiness": 10}, {"not_face": 10}, unmatched=[1])
    found = measure_votes(votes, predict({"happy": 1.0}, {"sad": 1.0}, {"sad": 1.0}), classes=EMOTIONS)
    assert found.images == 1
    assert found.accuracy.value == 1.0
    assert found.divergence == pytest.approx(0, abs=1e-6)


def test_the_order_of_the_classes_is_the_callers():
    votes = make_votes({"happiness": 8, "sadness": 2})
    found = measure_votes(votes, np.array([[0.2, 0.8]], np.float32), classes=("sad", "happy"))
    assert found.accuracy.value == 1.0
    assert found.divergence == pytest.approx(0, abs=1e-6)


def test_a_probability_of_zero_gives_a_large_divergence_not_an_infinite_one():
    found = measure_votes(make_votes({"happiness": 10}), predict({"sad": 1.0}), classes=EMOTIONS)
    assert found.divergence == pytest.approx(23 * log(2))  # float32 tells 1 from 1 + 2^-23


@given(st.lists(st.integers(0, 10), min_size=7, max_size=7).filter(lambda votes: sum(votes) > 0))
def test_predicting_the_votes_themselves_has_no_divergence_and_any_other_prediction_has(counts):
    votes = Votes(np.array([[*counts, 0, 0, 0]] * 2, dtype=np.int64), np.array([True, True]))
    assume(votes.majority()[0] >= 0)
    exact = measure_votes(votes, votes.soft_targets(), classes=EMOTIONS)
    assert exact.divergence == pytest.approx(0, abs=1e-6)
    assert exact.accuracy.value == 1.0
    shifted = np.roll(votes.soft_targets(), 1, axis=1)
    assert measure_votes(votes, shifted, classes=EMOTIONS).divergence > 1e-4


def test_votes_without_any_majority_are_an_error():
    votes = make_votes({"not_face": 10}, {"happiness": 5, "sadness": 5})
    with pytest.raises(DataError, match="none of 2 images has a class with most votes"):
        measure_votes(votes, predict({"sad": 1.0}, {"sad": 1.0}), classes=EMOTIONS)


@pytest.mark.parametrize("probabilities", [predict({"sad": 1.0}), np.full((2, 7), np.nan, np.float32)])
def test_probabilities_that_do_not_fit_are_an_error(probabilities):
    with pytest.raises(DataError, match="expected"):
        measure_votes(make_votes({"happiness": 10}, {"happiness": 10}), probabilities, classes=EMOTIONS)


@pytest.mark.fer2013
def test_the_labels_of_fer2013_hold_for_two_images_in_three_and_more_where_annotators_agree(fer2013):
    path = fer2013.parent / "ferplus" / "votes.csv"
    if not path.exists():
        pytest.skip("FER+ votes are not beside FER2013")
    test = load_dataset(fer2013).test
    labels = np.eye(7, dtype=np.float32)[test.labels]
    found = measure_votes(load_votes(path, test), labels, classes=EMOTIONS)
    values = [estimate.value for estimate in found.by_agreement.values()]
    assert found.accuracy.value == pytest.approx(0.648, abs=0.001)
    assert values == pytest.approx([0.380, 0.504, 0.712, 0.897], abs=0.001)
