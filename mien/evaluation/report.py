"""A Dataset and what a model predicted for it in, a Report out: it prints itself and saves JSON, a page and a card."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.data.dataset import Dataset
from mien.emotions import Labels, Probabilities
from mien.evaluation import plots
from mien.evaluation.metrics import Estimate, Figures, measure
from mien.evaluation.predictions import Predictions, save_predictions
from mien.files import replacing, write_json, write_text

FORMAT = 1  # of report.json: raised when a reader of the old one would misread the new one
MISTAKES = 24  # pictures of the most confident mistakes
MOST_PRINTED = 12  # classes whose confusion matrix a terminal has room for
CONFUSIONS = 3  # classes that a class is most often taken for

Picture = UInt8[np.ndarray, "height width *channels"]  # 0..255: grey, or red, green and blue


@dataclass(frozen=True, eq=False)
class Mistake:
    """One image with a wrong prediction: `index` into the data set, `confidence` 0..1 in the class predicted."""

    index: int
    name: str
    labelled: str
    predicted: str
    confidence: float
    image: Picture


@dataclass(frozen=True)
class Confusions:
    """Where the images of one class went: how many there are, how many were right, and (class, images) mistaken for."""

    name: str
    images: int
    right: int
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class CalibrationEffect:
    """The model's own figures, and those on the same images after calibration with that temperature."""

    temperature: float
    before: Figures
    after: Figures


@dataclass(frozen=True)
class Answered:
    """What becomes of the images where the model may say that it is uncertain.

    uncertain: how many have less than `minimum_confidence`, 0..1, in their likeliest class. accuracy: of the others,
    with Wilson's interval; None where there are none.
    """

    minimum_confidence: float
    uncertain: int
    accuracy: Estimate | None


@dataclass(frozen=True)
class VoteFigures:
    """Predictions against many annotators' votes on an image.

    accuracy: against the vote majority. divergence: mean KL(votes ‖ prediction), nats. by_agreement: accuracy by how
    far the annotators agreed, in the caller's words.
    """

    images: int
    accuracy: Estimate
    divergence: float
    by_agreement: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Extras:
    """Parts that not every report has; what is None is left out.

    without_duplicates: figures on the test images that do not occur in training. corruptions: accuracies at strengths
    1, 2, 3… by corruption. duplicates: counts by what was counted, in words. explanations: pictures by caption.
    """

    without_duplicates: Figures | None = None
    calibration: CalibrationEffect | None = None
    corruptions: Mapping[str, Sequence[float]] | None = None
    duplicates: Mapping[str, int] | None = None
    explanations: Mapping[str, Picture] | None = None
    votes: VoteFigures | None = None
    answered: Answered | None = None

    def to_dict(self) -> dict[str, Any]:
        """The parts that are there, pictures by their captions alone."""
        parts = {
            "without_duplicates": self.without_duplicates and self.without_duplicates.to_dict(),
            "calibration": self.calibration and describe_calibration(self.calibration),
            "corruptions": self.corruptions,
            "duplicates": self.duplicates,
            "explanations": self.explanations and list(self.explanations),
            "votes": self.votes and asdict(self.votes),
            "answered": self.answered and asdict(self.answered),
        }
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True, eq=False)
class Report:
    """One evaluation of one model on one test set, and all that is needed to judge it or to repeat it.

    model, data, protocol: their names, for a reader. predictions: for every test image, in order. provenance: nested
    plain values, whatever pins the figures down. history: a row an epoch with the columns epoch, accuracy, loss,
    val_accuracy, val_loss, learning_rate that there are.
    """

    model: str
    data: str
    protocol: str
    figures: Figures
    predictions: Predictions
    mistakes: tuple[Mistake, ...]
    confusions: tuple[Confusions, ...]
    provenance: Mapping[str, Any]
    history: tuple[Mapping[str, int | float], ...]
    extras: Extras

    @property
    def commonest(self) -> tuple[str, float]:
        """The class with the most images, and the accuracy of answering it always."""
        most = max(self.figures.per_class, key=lambda one: one.support)
        return most.name, most.support / self.figures.images

    @property
    def in_words(self) -> str:
        """The headline for a reader who knows no statistics."""
        accuracy = self.figures.accuracy
        right, low, high = (f"{100 * share:.0f}" for share in astuple(accuracy))
        sentence = f"Of every 100 test faces, {right} get the label that annotators gave them"
        if accuracy.low == accuracy.high:  # resampling images that are all right, or all wrong, tells nothing
            return f"{sentence}."
        return f"{sentence}; over all faces of this kind it is most likely between {low} and {high}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None is a figure that is not defined."""
        parts = {
            "format": FORMAT,
            "model": self.model,
            "data": self.data,
            "protocol": self.protocol,
            "figures": self.figures.to_dict(),
            "mistakes": [describe_mistake(mistake) for mistake in self.mistakes],
            "confusions": [asdict(confusions) for confusions in self.confusions],
            "provenance": self.provenance,
            "history": self.history,
            **self.extras.to_dict(),
        }
        return {name: plain(part) for name, part in parts.items()}

    def print(self, console: Console) -> None:
        """Print the headline, the table of classes and, where a terminal has the room, the confusion matrix."""
        figures = self.figures
        console.print(Text(f"{self.model} on {self.data}, {self.protocol} protocol, {figures.images:,} images"))
        for name, estimate in (("accuracy", figures.accuracy), ("macro-F1", figures.macro_f1)):
            console.print(f"[bold]{name} {percent(estimate)}[/] {bounds(estimate)}")
        if answered := self.extras.answered:
            console.print(Text(answered_in_words(answered, figures.images)))
        console.print(class_table(figures))
        if len(figures.classes) <= MOST_PRINTED:
            console.print(confusion_table(figures))

    def save(self, folder: Path) -> None:
        """Write report.json, report.html, model-card.md, predictions.npz, confusion.png and any history.png to `folder`.

        All are made before the first is written, and each takes the place of the one that was there at once.
        """
        page, card = self.to_html(), self.to_model_card()
        pictures = {"confusion.png": plots.confusion_plot(self.figures.confusion, self.figures.classes)}
        if self.history:
            pictures["history.png"] = plots.history_plot(self.history)
        encoded = {name: plots.as_png(figure) for name, figure in pictures.items()}
        save_predictions(folder / "predictions.npz", self.predictions)
        write_json(folder / "report.json", self.to_dict())
        write_text(folder / "report.html", page)
        write_text(folder / "model-card.md", card)
        for name, png in encoded.items():
            write_bytes(folder / name, png)

    def to_html(self) -> str:
        """One page that needs no other file and no network."""
        return pages().get_template("report.html.jinja").render(report=self, plots=draw(self))

    def to_model_card(self) -> str:
        """A Hugging Face model card: YAML front matter, then Markdown."""
        return pages().get_template("model_card.md.jinja").render(report=self)


def build_report(
    dataset: Dataset,
    probabilities: Probabilities,
    *,
    model: str,
    data: str,
    protocol: str,
    provenance: Mapping[str, Any],
    history: plots.History = (),
    extras: Extras | None = None,
) -> Report:
    """Judge predictions for every image of `dataset`, in its order. Raises DataError as `measure` does."""
    figures = measure(dataset.labels, probabilities, classes=dataset.classes)
    return Report(
        model=model,
        data=data,
        protocol=protocol,
        figures=figures,
        predictions=Predictions(dataset.names, dataset.labels, probabilities, dataset.sha256),
        mistakes=find_mistakes(dataset, probabilities),
        confusions=find_confusions(figures),
        provenance=provenance,
        history=tuple(history),
        extras=extras or Extras(),
    )


def find_mistakes(dataset: Dataset, probabilities: Probabilities) -> tuple[Mistake, ...]:
    """The wrong predictions of which the model was surest, surest first."""
    predicted: Labels = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != dataset.labels)
    surest = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:MISTAKES]
    return tuple(
        Mistake(
            index=int(index),
            name=str(dataset.names[index]),
            labelled=dataset.classes[dataset.labels[index]],
            predicted=dataset.classes[predicted[index]],
            confidence=float(probabilities[index].max()),
            image=dataset.images[index],
        )
        for index in surest
    )


def find_confusions(figures: Figures) -> tuple[Confusions, ...]:
    """For each class, the ones its images are most often taken for, commonest first."""
    return tuple(
        Confusions(
            name=name,
            images=int(row.sum()),
            right=int(row[index]),
            taken_for=tuple(
                (figures.classes[other], int(row[other]))
                for other in np.argsort(-row, kind="stable")
                if other != index and row[other]
            )[:CONFUSIONS],
        )
        for index, (name, row) in enumerate(zip(figures.classes, figures.confusion, strict=True))
    )


def describe_mistake(mistake: Mistake) -> dict[str, Any]:
    """Everything but the pixels, which the data set holds."""
    return {name: value for name, value in vars(mistake).items() if name != "image"}


def describe_calibration(calibration: CalibrationEffect) -> dict[str, Any]:
    return {
        "temperature": calibration.temperature,
        "before": calibration.before.to_dict(),
        "after": calibration.after.to_dict(),
    }


def answered_in_words(answered: Answered, images: int) -> str:
    """What a minimum confidence costs and brings."""
    sentence = (
        f"{answered.uncertain:,} of {images:,} faces ({answered.uncertain / images:.1%}) are uncertain: "
        f"less than {answered.minimum_confidence:g} in their likeliest class"
    )
    if answered.accuracy is None:
        return f"{sentence}; none is left to answer"
    return f"{sentence}; accuracy on the rest {percent(answered.accuracy)} {bounds(answered.accuracy)}"


def class_table(figures: Figures) -> Table:
    table = Table("class", box=SIMPLE_HEAD)
    for heading in ("precision", "recall", "F1", "images"):
        table.add_column(heading, justify="right")
    for one in figures.per_class:
        table.add_row(Text(one.name), percent(one.precision), percent(one.recall), percent(one.f1), f"{one.support:,}")
    return table


def confusion_table(figures: Figures) -> Table:
    """Counts, right answers bold; a row is a label, a column a prediction."""
    table = Table(box=SIMPLE_HEAD, title="labelled ↓   predicted →", title_justify="left")
    table.add_column(no_wrap=True, min_width=9)
    for name in figures.classes:
        table.add_column(Text(name), justify="right", no_wrap=True, min_width=4, max_width=9)
    for index, (name, row) in enumerate(zip(figures.classes, figures.confusion, strict=True)):
        cells = [Text(f"{count:,}", style="bold" if index == other else "dim") for other, count in enumerate(row)]
        table.add_row(Text(name), *cells)
    return table


def draw(report: Report) -> dict[str, Markup]:
    """The plots of the page by name, each an SVG element."""
    figures, extras = report.figures, report.extras
    drawn = {
        "classes": plots.class_bars_plot(figures.per_class),
        "confusion": plots.confusion_plot(figures.confusion, figures.classes),
        "reliability": plots.reliability_plot(figures.reliability),
        "risk_coverage": plots.risk_coverage_plot(figures.risk_coverage),
    }
    if report.history:
        drawn["history"] = plots.history_plot(report.history)
    if extras.corruptions:
        drawn["corruptions"] = plots.corruption_plot(extras.corruptions, clean=figures.accuracy.value)
    if extras.calibration:
        drawn["calibrated"] = plots.reliability_plot(extras.calibration.after.reliability)
    return {name: inline(plots.as_svg(figure, name=name)) for name, figure in drawn.items()}


def inline(svg: str) -> Markup:
    """An SVG file as an element of a page that gives it its colours, light or dark."""
    element = svg[svg.index("<svg") :]
    for name in ("ink", "muted", "rule"):
        colour = getattr(plots, name.upper())
        element = element.replace(colour, f"var(--{name}, {colour})")
    return Markup(element)


@cache
def pages() -> Environment:
    """The templates beside this file; all they are given is escaped."""
    environment = Environment(
        loader=PackageLoader("mien.evaluation", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=percent, bounds=bounds, data_uri=data_uri, answered_in_words=answered_in_words)
    return environment


def percent(share: Estimate | float | None) -> str:
    if isinstance(share, Estimate):
        share = share.value
    return "undefined" if share is None else f"{share:.1%}"


def bounds(estimate: Estimate) -> str:
    return f"({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def data_uri(picture: Picture) -> str:
    """A picture as PNG inside an address."""
    file = BytesIO()
    Image.fromarray(picture.squeeze()).save(file, format="PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def plain(value: Any) -> Any:
    """What JSON has a word for: NaN and infinity become None, and what it does not know becomes text."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case np.generic() | np.ndarray():
            return plain(value.tolist())
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as draft:
        draft.write_bytes(content)
