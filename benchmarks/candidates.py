"""Which file to ship: what exported files get right on validation images, never on the test ones.

    python benchmarks/candidates.py FILE … --data DIR [--views mirror]

A file is an ONNX file of `mien export`, or the name of a model that comes with mien. All are judged on the images that
none of them learned from, with the calibration that each holds. It was fitted on some of the same images, as the epoch was
chosen, and on all of them where a file held fewer back than others: so ECE is left out, and NLL is to be read with care.
Average precision is of the accuracy point; the last columns are of the balanced one. Then each is set beside the first,
image by image, with 95 % intervals.
"""

import json
from argparse import ArgumentParser

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from mien.data.dataset import Dataset, untracked
from mien.data.splits import find_leaks
from mien.emotions import Images, Probabilities
from mien.errors import DataError
from mien.evaluation.metrics import Estimate, compare, measure
from mien.evaluation.model_file import split_for
from mien.evaluation.report import percent
from mien.evaluation.views import VIEWS, look_at
from mien.inference.classifier import OPERATING_POINTS, Classifier, load

RARE, HARD = "disgusted", "fearful"


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--data", default=None)
    parser.add_argument("--views", default="single", choices=VIEWS)
    arguments = parser.parse_args()
    validation = unknown_to([load(file) for file in arguments.files], arguments.data)
    said = {file: read(file, validation.images, arguments.views) for file in arguments.files}
    console = Console(width=160)
    console.print(tabulate(said, validation))
    first, *others = arguments.files
    for other in others:
        found = compare(validation.labels, said[first][0], said[other][0])
        console.print(f"{other} beside {first}: accuracy {points(found.accuracy_difference)}, p {found.p_value:.2f}")


def unknown_to(classifiers: list[Classifier], data: str | None) -> Dataset:
    """The validation images of the first that no other learned from. Raises DataError where --data is not what they did."""
    parts = [split_for(classifier, data=data, track=untracked) for classifier in classifiers]
    for classifier, splits in zip(classifiers, parts, strict=True):
        if json.loads(classifier.metadata["hashes"])["train"] != splits.train.sha256:
            raise DataError(f"{classifier.name} was trained on other images; expected those in --data")
    first, *others = parts
    known = [find_leaks(splits.train, first.validation) for splits in others]
    return first.validation.take(np.setdiff1d(np.arange(len(first.validation)), np.concatenate([[], *known])))


def read(file: str, images: Images, views: str) -> tuple[Probabilities, Probabilities]:
    """What it says at the accuracy point, and at the balanced one."""
    accuracy, balanced = (
        look_at(load(file, operating_point=point), views).predict(images) for point in OPERATING_POINTS
    )
    return accuracy, balanced


def tabulate(said: dict[str, tuple[Probabilities, Probabilities]], images: Dataset) -> Table:
    columns = ("accuracy", "macro-F1", "NLL", f"{RARE}: AP", "recall", "precision", f"{HARD}: recall")
    rare = images.classes.index(RARE)
    table = Table("file", *columns, title=f"{len(images):,} validation images, {images.counts()[rare]} {RARE}")
    for file, (accuracy, balanced) in said.items():
        figures, at_balance = (measure(images.labels, rows, classes=images.classes) for rows in (accuracy, balanced))
        classes = {one.name: one for one in at_balance.per_class}
        table.add_row(
            file,
            percent(figures.accuracy),
            f"{figures.macro_f1.value:.3f}",
            f"{figures.nll:.3f}",
            f"{average_precision_score(images.labels == rare, accuracy[:, rare]):.3f}",
            *map(percent, (classes[RARE].recall, classes[RARE].precision, classes[HARD].recall)),
        )
    return table


def points(difference: Estimate) -> str:
    return f"{difference.value:+.1%} ({difference.low:+.1%} to {difference.high:+.1%})"


if __name__ == "__main__":
    main()
