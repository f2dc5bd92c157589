"""A classifier and splits in, a Report out: the one place where the test set is read."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from mien.data.dataset import PRIVATE, PUBLIC
from mien.data.splits import Splits, find_leaks
from mien.emotions import Images, Probabilities
from mien.errors import DataError, RecipeError
from mien.evaluation.calibration import Calibration, fit_calibration
from mien.evaluation.metrics import measure
from mien.evaluation.plots import History
from mien.evaluation.report import CalibrationEffect, Extras, Report, build_report

PROTOCOLS = {
    "kaggle": "all test images; validation carved from the training images, grouped by duplicate",
    "official": "PrivateTest tests, PublicTest validates",
}


class Classifier(Protocol):
    """Whatever predicts: a Keras network, an ONNX file, an ensemble, somebody else's model."""

    def predict(self, images: Images) -> Probabilities: ...


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
    provenance: Mapping[str, Any],
    history: History = (),
) -> Report:
    """Judge `classifier` on the test images of `protocol`, on those that no training image equals if so asked.

    The headline figures are the classifier's own, single view. Calibration is fitted on validation alone and reported
    beside them. model, data: their names, for a reader. provenance: whatever else pins the figures down.
    """
    parts = choose_parts(splits, protocol)
    leaks = find_leaks(parts.train, parts.test)
    distinct = np.setdiff1d(np.arange(len(parts.test)), leaks)
    test = parts.test.take(distinct) if without_duplicates else parts.test
    probabilities = classifier.predict(test.images)
    calibration = calibrate(classifier, parts)
    return build_report(
        test,
        probabilities,
        model=model,
        data=data,
        protocol=f"{protocol} without duplicates" if without_duplicates else protocol,
        provenance={**provenance, "evaluation": describe(parts, test.sha256, protocol, calibration)},
        history=history,
        extras=Extras(
            without_duplicates=None
            if without_duplicates
            else measure(test.labels[distinct], probabilities[distinct], classes=test.classes),
            calibration=CalibrationEffect(
                temperature=calibration.temperature,
                before=measure(test.labels, probabilities, classes=test.classes),
                after=measure(test.labels, calibration.apply(probabilities), classes=test.classes),
            ),
            duplicates={"test images that equal a training image": len(leaks)},
        ),
    )


def calibrate(classifier: Classifier, splits: Splits) -> Calibration:
    """A calibration fitted on the validation images."""
    counts = splits.train.counts()
    priors = tuple((counts / counts.sum()).tolist())
    return fit_calibration(splits.validation.labels, classifier.predict(splits.validation.images), priors=priors)


def describe(splits: Splits, test_sha256: str, protocol: str, calibration: Calibration) -> dict[str, Any]:
    return {
        "protocol": f"{protocol}: {PROTOCOLS[protocol]}",
        "selection": "the epoch with the lowest validation loss",
        "test_time_augmentation": "none: one view of each image",
        "test_sha256": test_sha256,
        "validation_sha256": splits.validation.sha256,
        "calibration": calibration.to_dict(),
    }
