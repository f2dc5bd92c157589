import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from mien.errors import DataError, RecipeError
from mien.evaluation.calibration import (
    Calibration,
    fit_calibration,
    fit_temperature,
    fit_threshold,
    uncertain,
)

EVEN = (1 / 3, 1 / 3, 1 / 3)
SKEWED = (0.75, 0.2, 0.05)
NOWHERE = (0.0, 0.0, 0.0)
MEANS = (0.0, 1.5, 3.0)  # of three classes that are seen as one normal number each


def see(images, *, priors, seed=0):
    """Labels of a population, and what is seen of each image."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=images, p=priors)
    return labels, rng.normal(np.array(MEANS)[labels])


def judge(seen, *, priors):
    """The posterior by Bayes' theorem, as a perfect model of a population with these priors gives it."""
    joint = np.stack([prior * norm.pdf(seen, mean) for prior, mean in zip(priors, MEANS, strict=True)], axis=1)
    return (joint / joint.sum(axis=1, keepdims=True)).astype(np.float32)


def sharpen(probabilities, temperature):
    return softmax(temperature * np.log(probabilities.astype(float)), axis=1).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
def test_fit_temperature_recovers_the_one_that_was_planted(temperature):
    rng = np.random.default_rng(1)
    honest = softmax(rng.normal(scale=2, size=(8000, 7)), axis=1)
    labels = (rng.random((8000, 1)) > honest.cumsum(axis=1)).sum(axis=1)
    found = fit_temperature(labels, sharpen(honest, temperature))
    assert found == pytest.approx(temperature, rel=0.04)
    nlls = [log_loss(labels, sharpen(sharpen(honest, temperature), 1 / t)) for t in (found, found * 1.05, found / 1.05)]
    assert min(nlls) == nlls[0]


def test_an_honest_model_is_left_as_it_is_at_the_accuracy_point():
    labels, seen = see(6000, priors=SKEWED)
    probabilities = judge(seen, priors=SKEWED)
    calibration = fit_calibration(labels, probabilities, priors=SKEWED)
    assert calibration.temperature == pytest.approx(1, abs=0.06)
    assert calibration.accuracy == (0, 0, 0)
    assert calibration.priors == SKEWED


def test_a_model_trained_on_evened_classes_gets_its_priors_back_at_the_accuracy_point():
    labels, seen = see(6000, priors=SKEWED)
    calibration = fit_calibration(labels, sharpen(judge(seen, priors=EVEN), 2), priors=SKEWED)
    _, fresh = see(500, priors=SKEWED, seed=1)
    mended = calibration.apply(sharpen(judge(fresh, priors=EVEN), 2))
    np.testing.assert_allclose(mended, judge(fresh, priors=SKEWED), atol=0.06)
    assert calibration.temperature == pytest.approx(2, rel=0.06)
    honest = fit_calibration(labels, judge(seen, priors=SKEWED), priors=SKEWED)
    answers = (
        calibration.apply(sharpen(judge(fresh, priors=EVEN), 2), operating_point="balanced"),
        honest.apply(judge(fresh, priors=SKEWED), operating_point="balanced"),
    )
    assert np.mean(answers[0].argmax(axis=1) == answers[1].argmax(axis=1)) > 0.95


def test_the_balanced_point_finds_rare_classes_more_often():
    labels, seen = see(4000, priors=SKEWED)
    calibration = fit_calibration(labels, judge(seen, priors=SKEWED), priors=SKEWED)
    labels, seen = see(20_000, priors=SKEWED, seed=1)
    plain, balanced = (
        calibration.apply(judge(seen, priors=SKEWED), operating_point=point).argmax(axis=1)
        for point in ("accuracy", "balanced")
    )
    amiss = [np.abs(np.bincount(answers) / len(answers) - SKEWED) for answers in (plain, balanced)]
    assert np.all(amiss[1] < 0.7 * amiss[0])  # each class is called more nearly as often as it occurs
    assert np.mean(balanced == 2) > np.mean(plain == 2)
    assert balanced_accuracy_score(labels, balanced) > balanced_accuracy_score(labels, plain) + 0.04
    assert f1_score(labels, balanced, average="macro") > f1_score(labels, plain, average="macro")
    assert np.mean(balanced == labels) < np.mean(plain == labels)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), temperature=st.floats(0.2, 5))
def test_temperature_alone_moves_confidence_and_never_the_answer(seed, temperature):
    probabilities = softmax(np.random.default_rng(seed).normal(size=(50, 7)), axis=1).astype(np.float32)
    zeros = (0.0,) * 7
    mended = Calibration(temperature, zeros, zeros, (1 / 7,) * 7).apply(probabilities)
    np.testing.assert_array_equal(mended.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(mended, sharpen(probabilities, 1 / temperature), atol=1e-5)
    assert np.all((mended.max(axis=1) - probabilities.max(axis=1)) * (temperature - 1) <= 1e-6)


def test_certain_and_wrong_stays_finite():
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    calibration = fit_calibration(np.array([0, 1, 2, 1]), probabilities, priors=EVEN)
    assert 1 < calibration.temperature <= 20
    assert np.isfinite(calibration.apply(probabilities)).all()


@pytest.mark.parametrize("priors", [SKEWED, (0.1, 0.2, 0.7), (0.5, 0.5, 0.0)])
def test_retarget_equals_bayes_for_gaussians_in_another_population(priors):
    _, seen = see(200, priors=EVEN)
    moved = Calibration(1.0, NOWHERE, NOWHERE, EVEN).retarget(priors)
    np.testing.assert_allclose(moved.apply(judge(seen, priors=EVEN)), judge(seen, priors=priors), atol=1e-5)


def test_only_the_accuracy_point_is_retargeted_and_there_is_a_way_back():
    calibration = Calibration(2.0, (0.1, 0.0, -0.1), (0.0, 0.5, 1.0), SKEWED)
    moved = calibration.retarget(EVEN)
    assert (moved.priors, moved.balanced) == (EVEN, calibration.balanced)
    back = moved.retarget(SKEWED)
    np.testing.assert_allclose(back.accuracy, calibration.accuracy, atol=1e-12)


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ((0.5, 0.5), "2 priors came; expected 3"),
        ((1.2, -0.1, -0.1), "expected each"),
        ((0.5, 0.4, float("nan")), "expected each"),
        ((0.5, 0.4, 0.4), "priors sum to 1.3; expected 1"),
    ],
)
def test_bad_priors_are_refused_wherever_they_come_in(priors, message):
    labels, seen = see(20, priors=EVEN)
    probabilities = judge(seen, priors=EVEN)
    calibration = Calibration(1.0, NOWHERE, NOWHERE, EVEN)
    for use in (
        lambda: replace(calibration, priors=priors).retarget(EVEN),
        lambda: calibration.retarget(priors),
        lambda: fit_calibration(labels, probabilities, priors=priors),
    ):
        with pytest.raises(DataError, match=message):
            use()


def test_a_class_that_was_never_trained_on_cannot_be_weighed_up():
    labels, seen = see(20, priors=EVEN)
    with pytest.raises(DataError, match="above 0"):
        fit_calibration(labels, judge(seen, priors=EVEN), priors=(0.5, 0.5, 0.0))
    with pytest.raises(DataError, match="above 0"):
        Calibration(1.0, NOWHERE, NOWHERE, (0.5, 0.5, 0.0)).retarget(EVEN)


def test_calibration_survives_json():
    calibration = Calibration(1.25, (0.0, 0.1, 0.2), (0.0, 0.5, 1.0), SKEWED)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    for name, value in (("balanced", [0.1]), ("temperature", 0), ("priors", "none"), ("accuracy", [0, 0, np.nan])):
        with pytest.raises(DataError):
            Calibration.from_dict({**calibration.to_dict(), name: value})
    with pytest.raises(DataError, match="to_dict"):
        Calibration.from_dict({"temperature": 1})


def test_apply_refuses_other_classes_and_unknown_points():
    calibration = Calibration(1.0, (0.0,) * 3, (0.0,) * 3, EVEN)
    with pytest.raises(DataError, match="2 columns; expected 3"):
        calibration.apply(np.full((4, 2), 0.5, np.float32))
    with pytest.raises(RecipeError, match="accuracy, balanced"):
        calibration.apply(np.full((4, 3), 1 / 3, np.float32), operating_point="best")


def test_fitting_refuses_logits():
    with pytest.raises(DataError, match="softmax"):
        fit_temperature(np.array([0, 1]), np.array([[3, 1, 0], [0, 2, 1]], np.float32))


def test_uncertain_is_where_the_likeliest_class_is_below_the_bar():
    probabilities = np.array([[0.5, 0.5, 0], [0.25, 0.25, 0.5], [0.4, 0.3, 0.3], [0, 1, 0]], np.float32)
    assert uncertain(probabilities, minimum_confidence=0.5).tolist() == [False, False, True, False]
    assert not uncertain(probabilities, minimum_confidence=0.0).any()
    with pytest.raises(RecipeError, match=r"0\.\.1"):
        uncertain(probabilities, minimum_confidence=50.0)


def test_a_threshold_leaves_those_who_are_right_often_enough():
    confidence = np.array([0.9, 0.9, 0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    labels = np.array([0, 0, 1, 0, 0, 1])  # the third of those with 0.9 is wrong, and so is the last
    assert fit_threshold(labels, probabilities, accuracy=0.95) == 1.0  # a tie is not cut through
    assert fit_threshold(labels, probabilities, accuracy=0.8) == pytest.approx(0.7)
    assert fit_threshold(labels, probabilities, accuracy=0.6) == pytest.approx(0.6)
