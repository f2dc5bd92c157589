"""What the models that come with mien get right on FER2013's test images: one CSV, and the headline in each card.

Every protocol, with and without the test images that occur in training, for one view and with each test-time
augmentation, at both operating points. ONNX Runtime alone predicts, with the calibration that each file holds. Average
precision of disgusted, and its recall where precision is at least 0.7, are over all thresholds on its probability: how
well it is told from the others, wherever one calls it.

    python benchmarks/shipped.py [NAME …] --data DIR        writes results/shipped.csv and mien/inference/weights/*.json
"""

import itertools
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from mien.data.dataset import image_hashes
from mien.data.splits import Splits
from mien.emotions import Images, Probabilities
from mien.evaluation.evaluate import PROTOCOLS, evaluate
from mien.evaluation.model_file import split_for
from mien.evaluation.report import Report
from mien.evaluation.views import VIEWS
from mien.files import write_json
from mien.inference.classifier import OPERATING_POINTS, WEIGHTS, Classifier, load, shipped_models
from mien.machine import describe_machine
from tables import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "shipped.csv"
PRECISION = 0.7
HEADLINE = {
    "protocol": "kaggle",
    "without_duplicates": False,
    "views": "single",
    "operating_point": "accuracy",
}


class Remembered:
    """A classifier that predicts the same image once."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.said: dict[str, Probabilities] = {}

    def predict(self, images: Images) -> Probabilities:
        keys = image_hashes(images).tolist()
        new = {key: row for row, key in enumerate(keys) if key not in self.said}
        self.said |= zip(new, self.classifier.predict(images[list(new.values())]), strict=True)
        said: Probabilities = np.stack([self.said[key] for key in keys])
        return said


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("names", nargs="*", default=shipped_models())
    parser.add_argument("--data", default=None)
    arguments = parser.parse_args()
    machine = describe_machine()
    constant = {name: machine[name] for name in ("processor", "cores", "git_commit", "started")}
    known = [row for row in read_table(RESULTS) if row["model"] in set(shipped_models()) - set(arguments.names)]
    found = [{**row, **constant} for name in arguments.names for row in judge(name, arguments.data)]
    write_table(RESULTS, [*known, *found])
    print(RESULTS.read_text(encoding="utf-8"))
    for name in arguments.names:
        add_to_card(name, [row for row in found if row["model"] == name])


def judge(name: str, data: str | None) -> Iterator[dict[str, object]]:
    for point in OPERATING_POINTS:
        classifier = load(name, operating_point=point)
        splits = split_for(classifier, data=data, track=lambda items, _: items)
        remembered = Remembered(classifier)
        for protocol, without, views in itertools.product(PROTOCOLS, (False, True), VIEWS):
            yield {"model": name, "operating_point": point, **row(remembered, splits, protocol, without, views)}


def row(classifier: Remembered, splits: Splits, protocol: str, without: bool, views: str) -> dict[str, object]:
    report = evaluate(
        classifier,
        splits,
        model="",
        data="",
        protocol=protocol,
        without_duplicates=without,
        views=views,
        provenance={},
    )
    return {"protocol": protocol, "without_duplicates": without, "views": views, **describe(report)}


def describe(report: Report) -> dict[str, object]:
    figures = report.figures
    classes = {one.name: one for one in figures.per_class}
    disgusted, fearful = classes["disgusted"], classes["fearful"]
    values = {
        "accuracy": figures.accuracy.value,
        "accuracy_low": figures.accuracy.low,
        "accuracy_high": figures.accuracy.high,
        "macro_f1": figures.macro_f1.value,
        "macro_f1_low": figures.macro_f1.low,
        "macro_f1_high": figures.macro_f1.high,
        "disgusted_recall": disgusted.recall and disgusted.recall.value,
        "disgusted_precision": disgusted.precision and disgusted.precision.value,
        "fearful_recall": fearful.recall and fearful.recall.value,
        "ece": figures.ece,
        "nll": figures.nll,
        **over_thresholds(report, "disgusted"),
    }
    return {"images": figures.images, **{name: value and round(value, 4) for name, value in values.items()}}


def over_thresholds(report: Report, name: str) -> dict[str, float]:
    """Average precision of a class, and its largest recall at a precision of PRECISION, as scikit-learn finds them."""
    column = report.figures.classes.index(name)
    there, said = report.predictions.labels == column, report.predictions.probabilities[:, column]
    precision, recall, _ = precision_recall_curve(there, said)
    return {
        f"{name}_average_precision": float(average_precision_score(there, said)),
        f"{name}_recall_at_precision_{100 * PRECISION:.0f}": float(recall[precision >= PRECISION].max()),
    }


def add_to_card(name: str, rows: list[dict[str, object]]) -> None:
    """Write what `mien evaluate NAME` finds, and the hash of the data it was found on, into the model's card."""
    (headline,) = (row for row in rows if all(row[key] == value for key, value in HEADLINE.items()))
    path = WEIGHTS / f"{name}.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    figures = {key: value for key, value in headline.items() if key not in ("model", "git_commit", "started")}
    write_json(path, {**card, "test": figures})


if __name__ == "__main__":
    main()
