"""A classifier and splits in, a Report out: the one place where the test set is read."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mien.data.dataset import PRIVATE, PUBLIC, Dataset
from mien.data.splits import Splits, find_leaks
from mien.data.votes import load_votes
from mien.emotions import Images, Indices, Probabilities
from mien.errors import DataError, RecipeError, RunError
from mien.evaluation.annotators import measure_votes
from mien.evaluation.calibration import Calibration, check_confidence, fit_calibration, uncertain
from mien.evaluation.corruptions import CORRUPTIONS, corrupt
from mien.evaluation.metrics import measure, wilson
from mien.evaluation.plots import History
from mien.evaluation.report import Answered, CalibrationEffect, Extras, Picture, Report, build_report
from mien.evaluation.views import VIEWS, Classifier, look_at

PROTOCOLS = {
    "kaggle": "all test images; validation carved from the training images, grouped by duplicate",
    "official": "PrivateTest tests, PublicTest calibrates; all other choices were made on images carved from training",
}
STRONGEST = 5
VERIFIED = ("images", "accuracy", "macro_f1", "balanced_accuracy", "nll", "ece")
Explainer = Callable[[Dataset, Probabilities], Mapping[str, Picture]]


def choose_parts(splits: Splits, protocol: str) -> Splits:
    """The validation and test images that `protocol`, one of PROTOCOLS, names."""
    if protocol == "kaggle":
        return splits
    if protocol != "official":
        raise RecipeError(f"there is no protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    halves = [splits.test.take(np.flatnonzero(splits.test.usage == half)) for half in (PUBLIC, PRIVATE)]
    if not all(map(len, halves)):
        raise DataError("the test images do not say which are PublicTest and PrivateTest; expected FER2013 itself")
    return Splits(splits.train, *halves)


def evaluate(
    classifier: Classifier,
    splits: Splits,
    *,
    model: str,
    data: str,
    protocol: str = "kaggle",
    without_duplicates: bool = False,
    corruptions: bool = False,
    votes: Path | None = None,
    operating_point: str | None = None,
    views: str = "single",
    minimum_confidence: float | None = None,
    fer2013_csv: Path | None = None,
    explain: Explainer | None = None,
    provenance: Mapping[str, Any],
    history: History = (),
) -> Report:
    """Judge `classifier` on the test images of `protocol`, on those alone that occur nowhere else if so asked.

    The headline figures are the classifier's own, or those at an operating point of its calibration, which is fitted on
    validation alone and reported beside them. model, data: their names, for a reader. views: one of VIEWS; more than a
    single one is test-time augmentation. corruptions: predict the test images 45 times more, corrupted. votes,
    fer2013_csv: a file of FER+ votes, and what places its rows, as in `load_votes`. minimum_confidence: 0..1, below
    which an image counts as uncertain; reported beside the headline, which is of all images. explain: draws pictures of
    what the classifier looks at. provenance: whatever else pins the figures down.
    """
    if minimum_confidence is not None:
        check_confidence(minimum_confidence)
    classifier = look_at(classifier, views)
    parts = choose_parts(splits, protocol)
    distinct = np.setdiff1d(np.arange(len(parts.test)), seen_before(splits, parts))
    test = parts.test.take(distinct) if without_duplicates else parts.test
    if len(parts.test) == 0:
        raise DataError(
            "there are no test images; expected some in test/, or with the Usage that the protocol tests on"
        )
    if len(test) == 0:
        raise DataError(
            f"all {len(parts.test):,} test images equal one that was trained or validated on; expected some that do not"
        )
    calibration = calibrate(classifier, parts)

    def at_point(probabilities: Probabilities) -> Probabilities:
        return calibration.apply(probabilities, operating_point=operating_point) if operating_point else probabilities

    own = classifier.predict(test.images)
    probabilities = at_point(own)
    return build_report(
        test,
        probabilities,
        model=model,
        data=data,
        protocol=f"{protocol} without duplicates" if without_duplicates else protocol,
        provenance={
            **provenance,
            "evaluation": {
                "protocol": protocol,
                "meaning": PROTOCOLS[protocol],
                "without_duplicates": without_duplicates,
                "operating_point": operating_point,
                "minimum_confidence": minimum_confidence,
                "selection": "the epoch with the lowest validation loss",
                "views": views,
                "test_time_augmentation": VIEWS[views],
                "test_sha256": test.sha256,
                "validation_sha256": parts.validation.sha256,
                "calibration": calibration.to_dict(),
            },
        },
        history=history,
        extras=Extras(
            without_duplicates=None
            if without_duplicates or len(distinct) == 0
            else measure(test.labels[distinct], probabilities[distinct], classes=test.classes),
            calibration=CalibrationEffect(
                temperature=calibration.temperature,
                before=measure(test.labels, own, classes=test.classes),
                after=measure(test.labels, calibration.apply(own), classes=test.classes),
            ),
            duplicates={"test images that equal a training or validation image": len(parts.test) - len(distinct)},
            corruptions=measure_corruptions(lambda images: at_point(classifier.predict(images)), test)
            if corruptions
            else None,
            votes=measure_votes(load_votes(votes, test, fer2013_csv=fer2013_csv), probabilities, classes=test.classes)
            if votes
            else None,
            answered=measure_answered(test, probabilities, minimum_confidence=minimum_confidence)
            if minimum_confidence is not None
            else None,
            explanations=explain(test, probabilities) if explain else None,
        ),
    )


def seen_before(splits: Splits, parts: Splits) -> Indices:
    """Rows of the test part whose pixels something was learned, chosen or calibrated on."""
    known = (splits.train, splits.validation, parts.validation)
    return np.unique(np.concatenate([find_leaks(part, parts.test) for part in known]))


def calibrate(classifier: Classifier, splits: Splits) -> Calibration:
    """A calibration fitted on the validation images, for the training images' shares of the classes."""
    counts = splits.train.counts()
    priors = tuple((counts / counts.sum()).tolist())
    return fit_calibration(splits.validation.labels, classifier.predict(splits.validation.images), priors=priors)


def measure_answered(test: Dataset, probabilities: Probabilities, *, minimum_confidence: float) -> Answered:
    """How many test images are uncertain, and how often the classifier is right on the rest."""
    sure = ~uncertain(probabilities, minimum_confidence=minimum_confidence)
    right = probabilities.argmax(axis=1) == test.labels
    accuracy = wilson(int((right & sure).sum()), int(sure.sum()))
    return Answered(minimum_confidence, int((~sure).sum()), accuracy)


def measure_corruptions(predict: Callable[[Images], Probabilities], test: Dataset) -> dict[str, list[float]]:
    """Accuracy on the test images under every corruption, at strengths 1 to 5."""
    return {
        name: [
            float(np.mean(predict(corrupt(test.images, name, strength=strength)).argmax(1) == test.labels))
            for strength in range(1, STRONGEST + 1)
        ]
        for name in CORRUPTIONS
    }


def read_report(path: Path) -> dict[str, Any]:
    """A report.json, or RunError where it is none."""
    try:
        claimed = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: claimed.get(name) for name in ("answered", "without_duplicates")}
        return {"figures": claimed["figures"], "provenance": claimed["provenance"], **parts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error!r}); expected a report.json of `mien evaluate`") from error


def settings_of(claimed: Mapping[str, Any]) -> dict[str, Any]:
    """How a saved report was made, as arguments of `evaluate`; one that is older than a setting lacks it."""
    said = claimed["provenance"]["evaluation"]
    names = ("protocol", "without_duplicates", "operating_point", "views", "minimum_confidence")
    return {name: said[name] for name in names if name in said}


def verify(claimed: Mapping[str, Any], found: Report) -> list[str]:
    """What a saved report claims and a new evaluation does not bear out, one line each; none where it holds.

    Hashes must be equal, figures within 1e-4: another processor rounds its sums otherwise. Intervals, and what the report
    has of corruptions and votes, are not compared.
    """
    evaluation = found.provenance["evaluation"]
    faults = [
        f"{name} is {evaluation[name][:12]}; the report says {said[:12]}"
        for name, said in claimed["provenance"]["evaluation"].items()
        if name.endswith("sha256") and said != evaluation[name]
    ]
    before, now = headline(claimed), headline(found.to_dict())
    return faults + [
        f"{name} is {in_digits(now.get(name))}; the report says {in_digits(said)}"
        for name, said in before.items()
        if not alike(said, now.get(name))
    ]


def headline(report: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a report that another evaluation must bear out, by name; None is one that is not defined."""
    answered, distinct = report.get("answered") or {}, report.get("without_duplicates") or {}
    figures = {
        **{name: report["figures"][name] for name in VERIFIED},
        **{f"{name} without duplicates": distinct[name] for name in VERIFIED if name in distinct},
        **{f"recall of {one['name']}": one["recall"] for one in report["figures"].get("per_class", ())},
        **{f"answered {name}": answered[name] for name in ("uncertain", "accuracy") if name in answered},
    }
    return {name: figure["value"] if isinstance(figure, Mapping) else figure for name, figure in figures.items()}


def alike(said: Any, now: Any) -> bool:
    if said is None or now is None:
        return said is now
    return bool(np.isclose(said, now, rtol=0, atol=1e-4))


def in_digits(figure: Any) -> str:
    if figure is None:
        return "undefined"
    return f"{figure:.4f}" if isinstance(figure, float) else str(figure)
