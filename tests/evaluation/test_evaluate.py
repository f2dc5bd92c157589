import dataclasses
import functools
import json
import operator

import numpy as np
import pytest

from mien.data.dataset import CSV_EMOTIONS, PRIVATE, PUBLIC, SPELLINGS
from mien.data.splits import Splits, split
from mien.data.votes import ANSWERS, MICROSOFT_ANSWERS
from mien.errors import DataError, RecipeError
from mien.evaluation.evaluate import choose_parts, evaluate, verify


class Guess:
    """Reads an expression off the mean grey level: bad, but the same each time, and it notes what it was shown."""

    def __init__(self):
        self.shown = []

    def predict(self, images):
        self.shown.append(len(images))
        centres = np.linspace(60, 190, 7)
        distances = (images.reshape(len(images), -1).mean(axis=1)[:, None] - centres) ** 2
        weights = np.exp(-distances / 2000)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def judge(splits, **options):
    return evaluate(Guess(), splits, model="guess", data="drawn", provenance={}, **options)


@pytest.fixture(scope="module")
def splits(drawn):
    return split(drawn)


@pytest.fixture(scope="module")
def halves(splits):
    """The same splits, with a test set that says which images are public."""
    usage = np.where(np.arange(len(splits.test)) % 2 == 0, PUBLIC, PRIVATE)
    return Splits(splits.train, splits.validation, dataclasses.replace(splits.test, usage=usage))


@pytest.fixture(scope="module")
def leaky(splits):
    """Three test images that equal a training image, and two that equal a validation image."""
    images = splits.test.images.copy()
    images[:3], images[3:5] = splits.train.images[:3], splits.validation.images[:2]
    return Splits(splits.train, splits.validation, dataclasses.replace(splits.test, images=images))


def test_the_test_set_is_all_that_figures_are_from(splits):
    report = judge(splits)
    assert report.figures.images == len(splits.test)
    predicted = Guess().predict(splits.test.images).argmax(axis=1)
    assert report.figures.accuracy.value == pytest.approx(np.mean(predicted == splits.test.labels))
    assert report.provenance["evaluation"]["test_sha256"] == splits.test.sha256


def test_official_tests_on_private_and_calibrates_on_public(halves):
    parts = choose_parts(halves, "official")
    assert set(parts.test.usage) == {PRIVATE}
    assert set(parts.validation.usage) == {PUBLIC}
    report = judge(halves, protocol="official")
    assert report.figures.images == len(parts.test)
    assert report.provenance["evaluation"]["validation_sha256"] == parts.validation.sha256


def test_official_needs_to_know_the_halves(splits):
    with pytest.raises(DataError, match="PublicTest and PrivateTest"):
        choose_parts(splits, "official")


def test_an_unknown_protocol_is_answered_with_the_right_ones(splits):
    with pytest.raises(RecipeError, match="expected one of kaggle, official"):
        choose_parts(splits, "cagle")


def test_duplicates_are_counted_and_can_be_left_out(leaky):
    whole, distinct = judge(leaky), judge(leaky, without_duplicates=True)
    assert list(whole.extras.duplicates.values()) == [5]
    assert distinct.figures.images == len(leaky.test) - 5
    assert whole.extras.without_duplicates.accuracy == distinct.figures.accuracy
    assert "without duplicates" in distinct.protocol


def test_a_report_holds_until_a_byte_of_the_test_set_changes(splits):
    claimed = judge(splits).to_dict()
    assert verify(claimed, judge(splits)) == []
    images = splits.test.images.copy()
    images[0, 0, 0] ^= 1
    changed = Splits(splits.train, splits.validation, dataclasses.replace(splits.test, images=images))
    faults = verify(claimed, judge(changed))
    assert len(faults) == 1
    assert faults[0].startswith(f"test_sha256 is {changed.test.sha256[:12]}; the report says {splits.test.sha256[:12]}")


def test_a_report_that_was_edited_does_not_hold(leaky):
    found = judge(leaky)
    for place, said in (
        (("figures", "per_class", 3, "recall", "value"), "recall of happy"),
        (("without_duplicates", "accuracy", "value"), "accuracy without duplicates"),
    ):
        claimed = json.loads(json.dumps(found.to_dict()))
        *way, last = place
        functools.reduce(operator.getitem, way, claimed)[last] += 0.01
        (fault,) = verify(claimed, found)
        assert fault.startswith(f"{said} is")


def test_figures_at_an_operating_point_are_the_calibrated_ones(splits):
    own, accurate = judge(splits), judge(splits, operating_point="accuracy")
    assert accurate.figures.nll == own.extras.calibration.after.nll
    assert accurate.extras.calibration.before.nll == own.figures.nll
    assert accurate.provenance["evaluation"]["operating_point"] == "accuracy"


def test_microsofts_votes_are_placed_by_the_csv_of_the_images(splits, tmp_path):
    emotions = [name.split("/")[1] for name in splits.test.names.tolist()]
    numbers = [CSV_EMOTIONS.index(emotion) for emotion in emotions]
    votes = [[10 if SPELLINGS.get(answer) == emotion else 0 for answer in ANSWERS] for emotion in emotions]
    rows = [",".join(["PublicTest", *map(str, counts)]) for counts in votes]
    path, images = tmp_path / "fer2013new.csv", tmp_path / "faces.csv"
    path.write_text("\n".join([",".join(["Usage", *MICROSOFT_ANSWERS]), *rows]))
    images.write_text("\n".join(["emotion,pixels,Usage", *(f"{number},0,PublicTest" for number in numbers)]))
    report = judge(splits, votes=path, fer2013_csv=images)
    assert report.extras.votes.accuracy.value == pytest.approx(report.figures.accuracy.value)
    with pytest.raises(DataError, match="expected that file beside it"):
        judge(splits, votes=path)


def test_uncertain_faces_are_counted_and_the_rest_judged(splits):
    probabilities = Guess().predict(splits.test.images)
    middle = float(np.median(probabilities.max(axis=1)))
    answered = judge(splits, minimum_confidence=middle).extras.answered
    sure = probabilities.max(axis=1) >= middle
    assert answered.uncertain == (~sure).sum() > 0
    right = probabilities[sure].argmax(axis=1) == splits.test.labels[sure]
    assert answered.accuracy.value == pytest.approx(right.mean())
    assert judge(splits).extras.answered is None
    nobody = judge(splits, minimum_confidence=1.0).extras.answered
    assert (nobody.uncertain, nobody.accuracy) == (len(splits.test), None)


def test_a_report_that_miscounts_uncertain_faces_does_not_hold(splits):
    claimed = judge(splits, minimum_confidence=0.3).to_dict()
    assert claimed["provenance"]["evaluation"]["minimum_confidence"] == 0.3
    found = judge(splits, minimum_confidence=0.3)
    assert verify(claimed, found) == []
    count = claimed["answered"]["uncertain"]
    claimed["answered"]["uncertain"] = count + 1
    assert verify(claimed, found) == [f"answered uncertain is {count}; the report says {count + 1}"]


def test_a_confidence_out_of_range_is_one_line_before_anything_is_predicted(splits):
    guess = Guess()
    with pytest.raises(RecipeError, match=r"minimum confidence is 1\.5; expected 0\.\.1"):
        evaluate(guess, splits, model="guess", data="drawn", provenance={}, minimum_confidence=1.5)
    assert guess.shown == []


def test_corruptions_are_measured_at_every_strength(splits):
    few = Splits(splits.train, splits.validation, splits.test.take(np.arange(10)))
    table = judge(few, corruptions=True).extras.corruptions
    assert len(table) == 9
    assert {len(row) for row in table.values()} == {5}


def test_an_empty_test_set_is_refused(splits):
    empty = Splits(splits.train, splits.validation, splits.test.take(np.array([], dtype=np.int64)))
    with pytest.raises(DataError):
        judge(empty)


def test_a_class_missing_from_the_test_set_is_undefined(splits):
    kept = np.flatnonzero(splits.test.labels != 1)
    report = judge(Splits(splits.train, splits.validation, splits.test.take(kept)))
    assert report.figures.per_class[1].recall is None


def test_corruptions_judge_what_the_headline_judges(splits, monkeypatch):
    monkeypatch.setattr("mien.evaluation.evaluate.corrupt", lambda images, name, *, strength: images)
    report = judge(splits, corruptions=True, operating_point="balanced")
    own = judge(splits)
    assert report.figures.accuracy.value != own.figures.accuracy.value
    assert {figure for row in report.extras.corruptions.values() for figure in row} == {report.figures.accuracy.value}


def test_where_every_test_image_was_learned_that_is_said(splits):
    leaked = Splits(splits.train, splits.validation, splits.train.take(np.arange(20)))
    report = judge(leaked)
    assert report.extras.without_duplicates is None
    assert list(report.extras.duplicates.values()) == [20]
    assert "20" in report.to_html()
    with pytest.raises(DataError, match="all 20 test images equal one that was trained or validated on"):
        judge(leaked, without_duplicates=True)
