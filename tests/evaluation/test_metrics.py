import json
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.evaluation.metrics import (
    accuracy,
    check_probabilities,
    compare,
    estimate,
    figures_by_class,
    macro_f1,
    mcnemar,
    measure,
    resample,
    wilson,
)

CLASSES = ("one", "two", "three")


def one_hot(classes, width):
    return np.eye(width, dtype=np.float32)[classes]


def draw(seed, images, width, skill=1.5):
    """Labels, and probabilities that know something about them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, width, images)
    logits = rng.normal(size=(images, width)) + skill * one_hot(labels, width)
    return labels, softmax(logits, axis=1).astype(np.float32)


def measure_slowly(labels, probabilities):
    """ECE and AURC by plain loops."""
    rows = [(max(map(float, row)), row.argmax() == label) for row, label in zip(probabilities, labels, strict=True)]
    error = 0.0
    for bin in range(15):
        inside = [(sure, right) for sure, right in rows if bin / 15 < sure <= (bin + 1) / 15]
        if inside:
            error += abs(sum(right for _, right in inside) - sum(sure for sure, _ in inside)) / len(rows)
    rows.sort(key=lambda row: -row[0])
    risks = [sum(not right for _, right in rows[:k]) / k for k in range(1, len(rows) + 1)]
    return error, sum(risks) / len(risks)


cases = given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 80), width=st.integers(3, 7))


@settings(max_examples=40)
@cases
def test_measure_equals_scikit_learn(seed, images, width):
    labels, probabilities = draw(seed, images, width)
    predictions, exact = probabilities.argmax(axis=1), probabilities.astype(float)
    exact /= exact.sum(axis=1, keepdims=True)
    everything = range(width)
    figures = measure(labels, probabilities, classes=EMOTIONS[:width], draws=10)

    with warnings.catch_warnings(action="ignore"):  # classes that are predicted, but not labelled
        balanced = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert figures.accuracy.value == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    assert figures.macro_f1.value == pytest.approx(sklearn_metrics.f1_score(labels, predictions, average="macro"))
    assert figures.balanced_accuracy == pytest.approx(balanced)
    assert figures.top_2 == pytest.approx(sklearn_metrics.top_k_accuracy_score(labels, exact, k=2, labels=everything))
    assert figures.nll == pytest.approx(sklearn_metrics.log_loss(labels, exact, labels=everything))
    brier = sklearn_metrics.brier_score_loss(labels, exact, labels=everything, scale_by_half=False)
    assert figures.brier == pytest.approx(brier)
    np.testing.assert_array_equal(
        figures.confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=everything)
    )


@settings(max_examples=40)
@cases
def test_figures_by_class_equal_scikit_learn_and_are_none_where_it_says_nan(seed, images, width):
    labels, probabilities = draw(seed, images, width)
    figures = measure(labels, probabilities, classes=EMOTIONS[:width], draws=10).per_class
    ours = [(value(f.precision), value(f.recall), np.nan if f.f1 is None else f.f1, f.support) for f in figures]
    theirs = sklearn_metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(width), zero_division=np.nan
    )
    np.testing.assert_allclose(np.array(ours).T, np.array(theirs))


def value(share):
    return np.nan if share is None else share.value


@settings(max_examples=40)
@cases
def test_ece_and_aurc_equal_plain_loops(seed, images, width):
    labels, probabilities = draw(seed, images, width)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    figures = measure(labels, probabilities, classes=EMOTIONS[:width], draws=10)
    assert (figures.ece, figures.aurc) == pytest.approx(measure_slowly(labels, probabilities), abs=1e-6)
    assert sum(figures.reliability.counts) == images
    coverages, risks = np.array(figures.risk_coverage).T
    assert len(coverages) == min(images, 101)
    assert coverages[-1] == 1
    assert risks[-1] == pytest.approx(1 - figures.accuracy.value)


def test_risk_does_not_depend_on_the_order_of_rows_that_tie():
    labels = np.array([0, 0, 1, 1, 1, 0])
    probabilities = np.tile(np.float32([0.9, 0.1]), (6, 1))
    order = np.argsort(labels)
    figures = [measure(labels[rows], probabilities, classes=("a", "b"), draws=10) for rows in (order, order[::-1])]
    assert figures[0].aurc == figures[1].aurc == pytest.approx(0.5)
    assert figures[0].top_2 == 1


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    figures = measure(np.array([0]), np.full((1, 3), 1 / 3, np.float32), classes=CLASSES, draws=10)
    assert figures.reliability.counts.index(1) == 4
    assert figures.reliability.low_edges[4] == pytest.approx(4 / 15)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_table_of_newcombe_1998(hits, trials, low, high):
    interval = wilson(hits, trials)
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == pytest.approx((hits / trials, low, high), abs=5e-5)


def test_intervals_cover_the_truth_at_their_nominal_rate():
    rng = np.random.default_rng(3)
    population = rng.dirichlet(np.full(9, 0.5)).reshape(3, 3) + np.eye(3) / 2
    population /= population.sum()
    hits, labelled, predicted = population.diagonal(), population.sum(axis=1), population.sum(axis=0)
    truths = [hits.sum(), np.mean(2 * hits / (labelled + predicted)), *hits / labelled, *hits / predicted]
    covered = []
    for seed in range(400):
        confusion = rng.multinomial(400, population.ravel()).reshape(3, 3)
        labels, predictions = np.repeat(np.argwhere(np.ones((3, 3))), confusion.ravel(), axis=0).T
        (tallies,) = resample(labels, predictions, classes=3, draws=300, seed=seed)
        by_class = figures_by_class(confusion, CLASSES)
        bootstrapped = [estimate(figure(tallies)) for figure in (accuracy, macro_f1)]
        estimates = [*bootstrapped, *(f.recall for f in by_class), *(f.precision for f in by_class)]
        covered.append([e.low <= truth <= e.high for e, truth in zip(estimates, truths, strict=True)])
    # Three standard errors of a share of 400: intervals of 90 % or 99 % fail.
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.95) < 0.03), np.mean(covered, axis=0)


def test_paired_intervals_cover_the_true_difference_and_are_tighter_than_unpaired_ones():
    rng = np.random.default_rng(4)
    covered = []
    for seed in range(200):
        labels = rng.integers(0, 3, 300)
        first = np.where(rng.random(300) < 0.7, labels, (labels + 1) % 3)
        second = np.where(rng.random(300) < 0.9, first, labels)  # right where first is, and at a tenth of the rest
        comparison = compare(labels, one_hot(first, 3), one_hot(second, 3), draws=300, seed=seed)
        interval = comparison.accuracy_difference
        covered.append(interval.low <= 0.03 <= interval.high)
        assert interval.high - interval.low < 0.08  # unpaired: 2 × 1.96 × sqrt(2 × 0.7 × 0.3 / 300) = 0.15
    assert abs(np.mean(covered) - 0.95) < 0.05


def test_mcnemar_equals_a_sum_by_hand():
    # 2 × (1 + 20 + 190 + 1,140 + 4,845 + 15,504) / 2^20
    assert mcnemar(5, 15) == mcnemar(15, 5) == pytest.approx(2 * 21_700 / 2**20)
    assert mcnemar(0, 0) == 1


def test_compare_counts_who_alone_is_right_and_subtracts_first_from_second():
    labels = np.array([0] * 20 + [1] * 20)
    first, second = labels.copy(), labels.copy()
    first[:6] = 1
    second[5:7] = 1
    comparison = compare(labels, one_hot(first, 2), one_hot(second, 2), draws=500)
    assert (comparison.first_only, comparison.second_only) == (1, 5)
    assert comparison.p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert comparison.accuracy_difference.value == pytest.approx(4 / 40)
    f1 = [sklearn_metrics.f1_score(labels, rows, average="macro") for rows in (first, second)]
    assert comparison.macro_f1_difference.value == pytest.approx(f1[1] - f1[0])
    assert comparison.to_dict() == json.loads(json.dumps(comparison.to_dict()))
    assert compare(labels, one_hot(first, 2), one_hot(first, 2), draws=50).accuracy_difference.high == 0


def test_a_class_missing_in_test_and_one_never_predicted_are_undefined():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2])
    figures = measure(labels, one_hot(predictions, 4), classes=EMOTIONS[:4], draws=100)
    hit, missed, missing, absent = figures.per_class
    assert (hit.f1, hit.support, hit.predicted) == (0.8, 2, 3)
    assert (missed.precision, missed.f1) == (None, 0)
    assert (missing.recall, missing.f1) == (None, 0)
    assert (absent.precision, absent.recall, absent.f1) == (None, None, None)
    assert figures.balanced_accuracy == 0.5
    assert figures.macro_f1.value == pytest.approx(0.8 / 3)
    assert figures.to_dict()["per_class"][3]["f1"] is None


def test_one_image_and_a_single_class_prediction_have_figures():
    alone = measure(np.array([1]), one_hot([1], 3), classes=CLASSES, draws=100)
    assert (alone.accuracy.value, alone.macro_f1.value, alone.risk_coverage) == (1, 1, ((1, 0),))
    same = measure(np.array([0, 1, 2]), one_hot([1, 1, 1], 3), classes=CLASSES, draws=100)
    assert [figure.precision is None for figure in same.per_class] == [True, False, True]
    assert same.nll == pytest.approx(2 / 3 * -np.log(np.finfo(float).eps))


def test_to_dict_is_plain_json_with_every_field():
    labels, probabilities = draw(0, 200, 7)
    figures = measure(labels, probabilities, classes=EMOTIONS, draws=100)
    fields = figures.to_dict()
    assert fields == json.loads(json.dumps(fields, allow_nan=False))
    assert fields["confusion"] == figures.confusion.tolist()
    assert fields["reliability"]["accuracies"][0] is None
    assert fields["accuracy"]["low"] < fields["accuracy"]["value"] < fields["accuracy"]["high"]


def test_measure_repeats_itself_and_the_seed_moves_intervals_only():
    labels, probabilities = draw(0, 200, 7)
    first, again, other = (
        measure(labels, probabilities, classes=EMOTIONS, draws=100, seed=seed).to_dict() for seed in (0, 0, 1)
    )
    assert first == again
    assert first["macro_f1"]["low"] != other["macro_f1"]["low"]
    assert first["macro_f1"]["value"] == other["macro_f1"]["value"]


def spoilt(row, values):
    labels, probabilities = draw(0, 5, 3)
    probabilities[row] = values
    return labels, probabilities


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros(0, np.int64), np.zeros((0, 3), np.float32), "no images"),
        (np.zeros(2, np.int64), one_hot([0, 1, 2], 3), "2 labels came with 3 rows"),
        (np.zeros(2, np.int64), one_hot([0, 1], 4), "4 columns; expected one for each of"),
        (np.array([0, 1, 3]), one_hot([0, 1, 2], 3), r"row 2 is 3 \(1 of 3 rows.*expected a label 0\.\.2"),
        (np.array([-1, 1, 2]), one_hot([0, 1, 2], 3), "row 0 is -1"),
        (*spoilt(1, np.nan), r"row 1 is \[nan nan nan\].*finite"),
        (*spoilt(1, np.inf), "row 1 .*finite"),
        (*spoilt(4, (-0.5, 1, 0.5)), "row 4 .*below 0"),
        (*spoilt(2, (2, 1, 0)), "row 2 .*sum to 1"),
    ],
)
def test_bad_input_is_one_clear_line(labels, probabilities, message):
    with pytest.raises(DataError, match=message) as error:
        check_probabilities(labels, probabilities, CLASSES)
    assert "\n" not in str(error.value)


def test_measure_and_compare_check_what_comes():
    labels, logits = spoilt(0, (3, 1, 2))
    good = draw(0, 5, 3)[1]
    with pytest.raises(DataError, match="softmax"):
        measure(labels, logits, classes=CLASSES)
    with pytest.raises(DataError, match="softmax"):
        compare(labels, good, logits)


def test_one_class_is_nothing_to_judge():
    with pytest.raises(DataError, match="one class, 'happy'; expected two or more"):
        measure(np.zeros(3, np.int64), np.ones((3, 1), np.float32), classes=("happy",))


def test_fifty_classes_are_compared_in_little_memory():
    labels, first = draw(0, 2000, 50)
    second = draw(1, 2000, 50)[1]
    tracemalloc.start()
    try:
        comparison = compare(labels, first, second, draws=2000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert comparison.accuracy_difference.low < comparison.accuracy_difference.value
    assert peak < 40e6  # 50 × 50 × 50 cells would take 2 GB


def test_ten_thousand_draws_over_the_test_set_take_less_than_two_seconds():
    labels, probabilities = draw(0, 7178, 7)
    began = time.perf_counter()
    measure(labels, probabilities, classes=EMOTIONS, draws=10_000)
    assert time.perf_counter() - began < 2
