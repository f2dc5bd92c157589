"""An ONNX file of `mien export`, or the name of a model that comes with mien, in; a Report out, by ONNX Runtime alone."""

import json
from pathlib import Path
from typing import Any

from mien.data.dataset import untracked
from mien.data.fetch import find_csv, name_source, open_data, title_of
from mien.data.splits import Splits, split_as
from mien.emotions import Track
from mien.errors import DataError
from mien.evaluation.evaluate import evaluate, read_report, settings_of, verify
from mien.evaluation.report import Report
from mien.inference.classifier import Classifier, find_model, load, shipped_models
from mien.machine import describe_machine


def evaluate_file(
    name_or_path: str,
    *,
    data: str | None = None,
    protocol: str = "kaggle",
    without_duplicates: bool = False,
    corruptions: bool = False,
    votes: Path | None = None,
    operating_point: str | None = None,
    views: str = "single",
    minimum_confidence: float | None = None,
    skip_bad: bool = False,
    track: Track = untracked,
) -> Report:
    """Judge a model as `mien predict` uses it: with the calibration that its file holds.

    data, skip_bad: as in `open_data`; split as the model's training images were. operating_point: of the file's
    calibration, "accuracy" where none is given. Raises DataError where the classes of the two are not the same.
    """
    point = operating_point or "accuracy"
    classifier = load(name_or_path, operating_point=point)
    source = name_source(data)
    splits = split_for(classifier, data=source, skip_bad=skip_bad, track=track)
    return evaluate(
        classifier,
        splits,
        model=classifier.name,
        data=title_of(splits.test, source),
        protocol=protocol,
        without_duplicates=without_duplicates,
        corruptions=corruptions,
        votes=votes,
        fer2013_csv=find_csv(source),
        views=views,
        minimum_confidence=minimum_confidence,
        provenance={
            "model": {
                "file": name_or_path if name_or_path in shipped_models() else str(find_model(name_or_path).resolve()),
                "sha256": classifier.sha256,
                "operating_point": point,
                **note_on(classifier, splits),
                **{name: parsed(text) for name, text in classifier.metadata.items()},
            },
            "costs": parsed(classifier.metadata.get("costs", "{}")),
            "evaluated with": describe_machine(),
        },
    )


def verify_file(
    report: Path, *, data: str | None = None, skip_bad: bool = False, track: Track = untracked
) -> list[str]:
    """What the report.json of a model claims and a new evaluation of that model does not bear out."""
    claimed = read_report(report)
    model = claimed["provenance"]["model"]
    settings = {**settings_of(claimed), "operating_point": model["operating_point"]}  # the file's, not a new one's
    found = evaluate_file(model["file"], data=data, skip_bad=skip_bad, track=track, **settings)
    now = found.provenance["model"]["sha256"]
    changed = [] if now == model["sha256"] else [f"the model is {now[:12]}; the report says {model['sha256'][:12]}"]
    return [*changed, *verify(claimed, found)]


def is_model(name_or_path: Path) -> bool:
    """Whether this names a model that comes with mien, or an ONNX file; else it is a run's folder, whatever its name."""
    is_run = any((name_or_path / name).is_file() for name in ("recipe.json", "ensemble.json"))
    return name_or_path.suffix == ".onnx" or (str(name_or_path) in shipped_models() and not is_run)


def is_about_model(report: Path) -> bool:
    """Whether this report.json judges a model's file; else it judges a run."""
    return "model" in read_report(report)["provenance"]


def split_for(classifier: Classifier, *, data: str | None, skip_bad: bool = False, track: Track) -> Splits:
    """The images split as they were when the model was trained, where they are the same ones: see `note_on`."""
    dataset = open_data(data, skip_bad=skip_bad, track=track)
    if dataset.classes != classifier.classes:
        raise DataError(
            f"the images have classes {', '.join(dataset.classes)}; expected {', '.join(classifier.classes)}, as "
            f"{classifier.name} was trained on"
        )
    return split_as(dataset, parsed(classifier.metadata.get("recipe", "{}")))


def note_on(classifier: Classifier, splits: Splits) -> dict[str, str]:
    """A line where the test images were set aside from others than those that the model was trained on."""
    learned = parsed(classifier.metadata.get("hashes", "{}")).get("train", splits.train.sha256)
    if learned == splits.train.sha256 or not splits.test.is_carved:
        return {}
    return {
        "note": f"{classifier.name} was trained on another set of images; if these include some of them, it may be tested "
        "on what it learned: put unseen pictures into test/, and the rest into train/"
    }


def parsed(text: str) -> Any:
    """What the text means as JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
