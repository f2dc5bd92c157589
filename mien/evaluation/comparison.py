"""Evaluated runs in, one table out: which is better on the same test images, how sure that is, and what each cost."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.errors import DataError
from mien.evaluation.metrics import Comparison, Estimate, compare
from mien.evaluation.predictions import REMEDY, Predictions, load_predictions
from mien.evaluation.report import FORMAT, bounds, pages, percent
from mien.files import write_json, write_text

LAST_COLUMNS = ("parameters", "multiply_adds", "epochs", "seconds", "hardware", "judged")
CHANCE = 0.05  # a difference that chance brings about at least as often is not believed


@dataclass(frozen=True)
class ComparedRun:
    """One run's figures and cost; None is what its report does not say.

    name: of its folder. recalls: by class, None where no image carries its label. against_first: this run minus the
    first one, None for the first itself. multiply_adds: of one image. seconds: of all its epochs. hardware: what it was
    trained on. judged: by which views, and by which probabilities.
    """

    name: str
    model: str
    accuracy: Estimate
    macro_f1: Estimate
    recalls: Mapping[str, Estimate | None]
    against_first: Comparison | None
    parameters: int | None
    multiply_adds: int | None
    epochs: int | None
    seconds: float | None
    hardware: str | None
    judged: str


@dataclass(frozen=True)
class RunComparison:
    """Runs judged on the same test images, in the order they were given. supports: images of each class."""

    data: str
    protocol: str
    images: int
    test_sha256: str
    supports: Mapping[str, int]
    runs: tuple[ComparedRun, ...]

    @property
    def rarest(self) -> str:
        """The class with the fewest test images, of those that have any: the one that accuracy hides best."""
        return min((name for name, images in self.supports.items() if images), key=self.supports.__getitem__)

    @property
    def in_words(self) -> str:
        """The outcome for a reader who knows no statistics, and what else than the models differed."""
        ways = [f"{run.name} by {run.judged}" for run in self.runs]
        alike = len({run.judged for run in self.runs}) == 1
        return self.outcome if alike else f"{self.outcome} They were not judged alike: {'; '.join(ways)}."

    @property
    def outcome(self) -> str:
        """Which run is right most often, and whether that is more than chance."""
        best = max(self.runs, key=lambda run: run.accuracy.value)
        gain = best.against_first
        if gain is None:
            return f"No run is right more often than {best.name}, the first: {percent(best.accuracy)}."
        sentence = (
            f"{best.name} is right most often, {percent(best.accuracy)} of the time: "
            f"{100 * gain.accuracy_difference.value:.1f} points more than {self.runs[0].name}"
        )
        # Bonferroni: the best of many is chosen after looking.
        p = min(1.0, gain.p_value * (len(self.runs) - 1))
        corrected = f", corrected for {len(self.runs) - 1} comparisons" if len(self.runs) > 2 else ""
        if p >= CHANCE:
            return f"{sentence}, which may well be chance (p = {p_text(p)}{corrected})."
        return f"{sentence}, which chance alone would hardly bring about (p {p_text(p, equals='= ')}{corrected})."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None is a figure that is not known."""
        return asdict(self)

    def to_csv(self) -> str:
        """A row a run; shares are 0..1, differences those to the first run."""
        rows = [csv_row(run) for run in self.runs]
        text = StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_html(self) -> str:
        """One page that needs no other file and no network."""
        template = pages().get_template("compare.html.jinja")
        words = {"p_text": p_text, "duration": duration, "millions": millions}
        return template.render(comparison=self, first=self.runs[0], **words)

    def print(self, console: Console) -> None:
        """Print one table; intervals stand below their figures, gains over the first run are in percentage points."""
        console.print(Text(f"{self.data}, {self.protocol} protocol, {self.images:,} images"))
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), leading=1)
        table.caption, table.caption_justify = Text(self.hardware), "left"
        table.add_column("run", overflow="fold")
        for heading in ("accuracy", "macro-F1", f"{self.rarest} recall", "accuracy gain", "cost"):
            table.add_column(Text(heading), justify="right")
        for run in self.runs:
            table.add_row(*table_row(run, self.rarest))
        console.print(table)
        console.print(Text(self.in_words))

    @property
    def hardware(self) -> str:
        """What the runs were trained on, in one line where it is the same for all."""
        kinds = {run.hardware or "unknown hardware" for run in self.runs}
        if len(kinds) == 1:
            return f"trained on {kinds.pop()}"
        return "\n".join(f"{run.name}: {run.hardware or 'unknown hardware'}" for run in self.runs)

    def save(self, folder: Path) -> None:
        """Write comparison.json, comparison.csv and comparison.html to `folder`."""
        page = self.to_html()
        write_json(folder / "comparison.json", self.to_dict())
        write_text(folder / "comparison.csv", self.to_csv())
        write_text(folder / "comparison.html", page)


def compare_reports(folders: Sequence[Path]) -> RunComparison:
    """Set evaluated runs against the first of them, image by image, from their report.json and predictions.npz.

    Raises DataError unless there are two folders or more, each evaluated, all on the same test images.
    """
    names = name_runs(folders)
    reports = [read_report(folder) for folder in folders]
    predictions = [load_predictions(folder / "predictions.npz") for folder in folders]
    for folder, report, predicted in zip(folders, reports, predictions, strict=True):
        check_same_evaluation(folder, report, predicted)
        check_same_images(folder, predicted, folders[0], predictions[0])
    first = predictions[0]
    gains = [compare(first.labels, first.probabilities, other.probabilities) for other in predictions[1:]]
    return RunComparison(
        data=reports[0]["data"],
        protocol=reports[0]["protocol"],
        images=len(first.labels),
        test_sha256=first.test_sha256,
        supports={one["name"]: one["support"] for one in reports[0]["figures"]["per_class"]},
        runs=tuple(map(describe_run, names, reports, [None, *gains])),
    )


def name_runs(folders: Sequence[Path]) -> list[str]:
    """The folders' names, or their whole paths where two have the same name."""
    paths = [folder.resolve() for folder in folders]
    if len(paths) < 2:
        raise DataError(f"{len(paths)} run came; expected two or more to compare")
    for path in paths:
        if paths.count(path) > 1:
            raise DataError(f"{path} came twice; expected runs that differ")
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def read_report(folder: Path) -> dict[str, Any]:
    """The report.json in `folder`."""
    path = folder / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if report["format"] != FORMAT:
            raise ValueError(f"its format is {report['format']}, not {FORMAT}")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an evaluated run: {REMEDY} {folder}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); expected a report: {REMEDY} {folder}") from error
    return report


def check_same_evaluation(folder: Path, report: Mapping[str, Any], predictions: Predictions) -> None:
    """Raise a DataError where the predictions are not those that the report judges."""
    said = report["provenance"].get("evaluation", {}).get("test_sha256", predictions.test_sha256)
    accuracy = np.mean(predictions.probabilities.argmax(axis=1) == predictions.labels)
    if said != predictions.test_sha256 or not np.isclose(accuracy, report["figures"]["accuracy"]["value"], rtol=0):
        raise DataError(
            f"{folder} holds predictions of one evaluation and the report of another; "
            f"expected both of the same: {REMEDY} {folder}"
        )


def check_same_images(folder: Path, predictions: Predictions, first_folder: Path, first: Predictions) -> None:
    """Raise a DataError unless both were predicted for the same test images, in the same order."""
    if predictions.test_sha256 != first.test_sha256:
        raise DataError(
            f"{folder} was evaluated on other test images ({predictions.test_sha256[:12]}) than {first_folder} "
            f"({first.test_sha256[:12]}); expected the same: evaluate both with the same --data and --protocol"
        )


def describe_run(name: str, report: Mapping[str, Any], against_first: Comparison | None) -> ComparedRun:
    figures, provenance, history = report["figures"], report["provenance"], report["history"]
    return ComparedRun(
        name=name,
        model=report["model"],
        accuracy=Estimate(**figures["accuracy"]),
        macro_f1=Estimate(**figures["macro_f1"]),
        recalls={one["name"]: one["recall"] and Estimate(**one["recall"]) for one in figures["per_class"]},
        against_first=against_first,
        parameters=provenance.get("costs", {}).get("parameters"),
        multiply_adds=provenance.get("costs", {}).get("multiply_adds"),
        epochs=len(history) or None,
        seconds=float(sum(row["seconds"] for row in history)) if history and "seconds" in history[0] else None,
        hardware=describe_hardware(provenance.get("trained with", {})),
        judged=describe_judgement(provenance),
    )


def describe_hardware(environment: Mapping[str, Any]) -> str | None:
    """The processor, its cores and what Keras computed with, as far as they are known."""
    cores = environment.get("cores")
    facts = (environment.get("processor"), cores and f"{cores} cores", environment.get("backend"))
    return ", ".join(fact for fact in facts if fact) or None


def describe_judgement(provenance: Mapping[str, Any]) -> str:
    """The views of each image, and whose probabilities: a network's own, its ensemble's or those at an operating point."""
    evaluation = provenance.get("evaluation", {})
    point = evaluation.get("operating_point") or provenance.get("model", {}).get("operating_point")
    own = "members calibrated" if "ensemble" in provenance.get("recipe", {}) else "uncalibrated"
    return f"views {evaluation.get('views', 'single')}, {f'operating point {point}' if point else own}"


def csv_row(run: ComparedRun) -> dict[str, Any]:
    """Every figure of a run in a cell of its own, empty where there is none."""
    gain = run.against_first
    estimates = {
        "accuracy": run.accuracy,
        "macro_f1": run.macro_f1,
        **{f"recall_{name}": recall for name, recall in run.recalls.items()},
        "accuracy_difference": gain and gain.accuracy_difference,
        "macro_f1_difference": gain and gain.macro_f1_difference,
    }
    row: dict[str, Any] = {"run": run.name, "model": run.model}
    for name, estimate in estimates.items():
        cells = (estimate.value, estimate.low, estimate.high) if estimate else (None,) * 3
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), cells, strict=True))
    row |= {
        "first_only": gain and gain.first_only,
        "second_only": gain and gain.second_only,
        "p_value": gain and gain.p_value,
    }
    return row | {name: getattr(run, name) for name in LAST_COLUMNS}


def table_row(run: ComparedRun, rarest: str) -> list[Text]:
    gain, recall = run.against_first, run.recalls[rarest]
    costs = (millions(run.parameters), f"{run.epochs or '–'} epochs", duration(run.seconds))
    cells = (
        (run.name,),
        (percent(run.accuracy), between(run.accuracy)),
        (percent(run.macro_f1), between(run.macro_f1)),
        (percent(recall), between(recall)),
        (points(gain.accuracy_difference), f"p {p_text(gain.p_value, equals='= ')}") if gain else ("–",),
        costs,
    )
    return [Text("\n".join(lines)) for lines in cells]


def between(estimate: Estimate | None) -> str:
    return bounds(estimate).strip("()") if estimate else ""


def points(difference: Estimate) -> str:
    """A difference of shares in percentage points, its interval in a line of its own."""
    value, low, high = (f"{100 * share:+.1f}" for share in (difference.value, difference.low, difference.high))
    return f"{value}\n{low} to {high}"


def p_text(p_value: float, *, equals: str = "") -> str:
    """A p-value to three places, after `equals` unless it is too small for them."""
    return "< 0.001" if p_value < 0.001 else f"{equals}{p_value:.3f}"


def millions(number: int | None) -> str:
    return "–" if number is None else f"{number / 1e6:,.2f} M"


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them: 45 s, 12 min, 3.5 h."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
