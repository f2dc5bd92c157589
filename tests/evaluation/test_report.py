import dataclasses
import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from mien.data.dataset import Dataset
from mien.emotions import EMOTIONS
from mien.evaluation import plots
from mien.evaluation import report as reporting
from mien.evaluation.metrics import Estimate, measure
from mien.evaluation.report import (
    MISTAKES,
    Answered,
    CalibrationEffect,
    Extras,
    Report,
    VoteFigures,
    build_report,
    find_mistakes,
)

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "br", "img", "input", "hr"}
HISTORY = [{"epoch": 1, "accuracy": 0.3, "val_accuracy": 0.4}, {"epoch": 2, "accuracy": 0.5, "val_accuracy": 0.45}]


def make_dataset(labels: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 48, 48, 1), np.uint8)
    names = np.array([f"test/{classes[label]}/im{index}.png" for index, label in enumerate(labels)])
    return Dataset(images=images, labels=labels, names=names, usage=np.full(len(labels), "Test"), classes=classes)


def make_probabilities(labels: np.ndarray, classes: int, *, seed: int = 2) -> np.ndarray:
    """About half of them right."""
    drawn = np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), len(labels))
    drawn[np.arange(len(labels)), labels] += 0.3
    return (drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)


def make_report(*, classes=EMOTIONS, labels=None, probabilities=None, provenance=None, **options) -> Report:
    labels = np.arange(70) % len(classes) if labels is None else labels
    probabilities = make_probabilities(labels, len(classes)) if probabilities is None else probabilities
    provenance = {"seeds": [0]} if provenance is None else provenance
    names = {"model": "baseline", "data": "FER2013", "protocol": "kaggle"}
    return build_report(make_dataset(labels, classes), probabilities, provenance=provenance, **{**names, **options})


def make_extras(report: Report) -> Extras:
    figures = report.figures
    return Extras(
        without_duplicates=figures,
        calibration=CalibrationEffect(temperature=1.25, before=figures, after=figures),
        corruptions={"blur": (0.5, 0.4), "noise": (0.45, 0.2)},
        duplicates={"copies of a training image": 567},
        explanations={"mean map, happy": np.full((48, 48, 3), 9, np.uint8), "grey": np.zeros((24, 24), np.uint8)},
        votes=VoteFigures(70, Estimate(0.7, 0.6, 0.8), 0.5, {"all agree": Estimate(0.9, 0.8, 1.0)}),
        answered=Answered(0.6, 14, Estimate(0.75, 0.65, 0.85)),
    )


class Page(HTMLParser):
    """A page as a browser reads it: its text, its elements, and whether each is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def printed(report: Report, *, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    report.print(console)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def full() -> Report:
    """A report with every part."""
    return make_report(history=HISTORY, extras=make_extras(make_report()))


@pytest.fixture(scope="module")
def saved(full: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report with every part, saved once: drawing takes a second or two."""
    folder = tmp_path_factory.mktemp("report")
    full.save(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots out, where a test is about words."""
    monkeypatch.setattr(reporting, "draw", lambda report: defaultdict(str))
    monkeypatch.setattr(plots, "as_png", lambda figure: b"png")


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_report_json_says_what_the_report_says(full: Report, saved: Path):
    read = json.loads((saved / "report.json").read_text(), parse_constant=refuse)
    assert read == full.to_dict()
    assert read["format"] == 1
    assert (read["model"], read["data"], read["protocol"]) == ("baseline", "FER2013", "kaggle")
    assert read["history"] == HISTORY
    assert np.trace(read["figures"]["confusion"]) / 70 == pytest.approx(read["figures"]["accuracy"]["value"])


def test_what_a_minimum_confidence_costs_and_brings_is_said(full: Report, saved: Path):
    words = "14 of 70 faces (20.0%) are uncertain: less than 0.6 in their likeliest class"
    said = f"{words}; accuracy on the rest 75.0% (65.0–85.0)"
    assert said in Page((saved / "report.html").read_text()).text
    assert said in printed(full, width=200)
    assert "uncertain" not in printed(make_report())
    nobody = make_report(extras=Extras(answered=Answered(1.0, 70, None)))
    assert "70 of 70 faces (100.0%) are uncertain" in printed(nobody, width=200)
    assert "none is left to answer" in printed(nobody, width=200)


def test_many_classes_are_printed_without_their_matrix():
    names = tuple(f"class {number}" for number in range(50))
    labels = np.arange(100) % 50
    dataset = Dataset(
        np.zeros((100, 48, 48, 1), np.uint8), labels, labels.astype(str), np.full(100, "Test"), classes=names
    )
    probabilities = np.full((100, 50), 1 / 50, np.float32)
    report = build_report(dataset, probabilities, model="m", data="own", protocol="kaggle", provenance={})
    text = printed(report)
    assert "class 49" in text
    assert "predicted →" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_values_that_json_lacks_become_null_or_text():
    provenance = {"loss": float("nan"), "seed": np.int64(3), "path": Path("a/b"), 1: (np.float32(0.5), None, True)}
    written = make_report(provenance=provenance, history=[{"loss": float("inf")}]).to_dict()
    assert written["provenance"] == {"loss": None, "seed": 3, "path": "a/b", "1": [0.5, None, True]}
    assert written["history"] == [{"loss": None}]


def test_extras_are_shown_only_where_there_are_any(full: Report, undrawn: None):
    parts = {"without_duplicates", "calibration", "corruptions", "duplicates", "explanations", "votes"}
    titles = ("Without duplicates", "After calibration", "When pictures get worse", "Duplicates", "Where it looked")
    bare, text, bare_text = make_report(), Page(full.to_html()).text, Page(make_report().to_html()).text
    assert parts <= full.to_dict().keys()
    assert not parts & bare.to_dict().keys()
    for words in (*titles, "How it learned", "Against many annotators", "mean map, happy", "567", "1.250"):
        assert words in text
        assert words not in bare_text


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60))
def test_mistakes_are_the_surest_of_the_wrong(seed: int, count: int):
    labels = np.random.default_rng(seed).integers(0, 7, count)
    dataset, probabilities = make_dataset(labels, EMOTIONS), make_probabilities(labels, 7, seed=seed)
    mistakes = find_mistakes(dataset, probabilities)
    wrong = [
        (max(row), index) for index, row in enumerate(probabilities.tolist()) if row.index(max(row)) != labels[index]
    ]
    assert [mistake.confidence for mistake in mistakes] == sorted((sure for sure, _ in wrong), reverse=True)[:MISTAKES]
    for mistake in mistakes:
        assert (mistake.confidence, mistake.index) in wrong
        assert mistake.labelled == EMOTIONS[labels[mistake.index]] != mistake.predicted
        assert mistake.name == dataset.names[mistake.index]
        np.testing.assert_array_equal(mistake.image, dataset.images[mistake.index])


def test_confusions_name_the_commonest_first(undrawn: None):
    labels = np.array([0] * 10 + [1] * 3)
    predicted = np.array([0, 0, 0, 0, 2, 2, 2, 1, 1, 2, 1, 1, 1])
    report = make_report(
        classes=("sad", "happy", "angry"), labels=labels, probabilities=np.eye(3, dtype=np.float32)[predicted]
    )
    sad, happy, angry = report.confusions
    assert (sad.images, sad.right, sad.taken_for) == (10, 4, (("angry", 4), ("happy", 2)))
    assert (happy.right, happy.taken_for) == (3, ())
    assert angry.images == 0
    text = Page(report.to_html()).text
    assert "sad : 40% right; else mostly taken for angry (40%), happy (20%)" in text
    assert "angry : no test image carries this label" in text


def test_page_needs_nothing_from_elsewhere(saved: Path):
    html = (saved / "report.html").read_text()
    page = Page(html)
    addresses = [attributes.get(name) for _, attributes in page.elements for name in ("src", "href", "xlink:href")]
    assert any(addresses)
    assert all(address.startswith(("data:", "#")) for address in addresses if address)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.elements}


def test_page_has_its_plots_and_no_identity_twice(saved: Path):
    page = Page((saved / "report.html").read_text())
    assert sum(tag == "svg" for tag, _ in page.elements) == 7
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert identities
    assert len(identities) == len(set(identities))


def test_page_shows_the_headline_every_class_and_the_pictures(undrawn: None):
    report = make_report(provenance={"split": {"selection": "validation"}, "test_time_augmentation": None})
    page = Page(report.to_html())
    accuracy = report.figures.accuracy
    for words in (f"{accuracy.value:.1%}", f"{accuracy.low:.1%} to {accuracy.high:.1%}", "kaggle protocol", *EMOTIONS):
        assert words in page.text
    assert "selection validation" in page.text
    assert "test time augmentation none" in page.text
    faces = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(faces) == min(MISTAKES, 70 - np.trace(report.figures.confusion))


def test_sentence_holds_the_numbers_of_the_headline():
    labels = np.zeros(400, np.int64)
    predicted = np.repeat([0, 1], [260, 140])
    report = make_report(classes=("yes", "no"), labels=labels, probabilities=np.eye(2, dtype=np.float32)[predicted])
    assert report.in_words.startswith("Of every 100 test faces, 65 get the label")
    assert report.in_words.endswith("between 60 and 70.")  # 65 ± 1.96 √(.65 × .35 / 400) = 65 ± 4.7
    assert report.commonest == ("yes", 1.0)


@pytest.mark.parametrize("classes", [2, 10])
def test_own_classes_work_everywhere(tmp_path: Path, classes: int):
    names = tuple(f"look {index}" for index in range(classes))
    report = make_report(classes=names, labels=np.arange(30) % (classes - 1))
    report.save(tmp_path)
    for name in names:
        assert name in Page((tmp_path / "report.html").read_text()).text
        assert name in printed(report, width=120)
        assert f"| {name} |" in (tmp_path / "model-card.md").read_text()


def test_terminal_shows_the_figures_of_every_class():
    report = make_report()
    text = printed(report)
    assert f"accuracy {report.figures.accuracy.value:.1%}" in text
    (row,) = re.findall(r"^ +fearful +([\d.]+)% +([\d.]+)% +([\d.]+)% +(\d+) *$", text, re.MULTILINE)
    fearful = report.figures.per_class[2]
    expected = [100 * fearful.precision.value, 100 * fearful.recall.value, 100 * fearful.f1, fearful.support]
    assert [float(cell) for cell in row] == pytest.approx(expected, abs=0.051)
    counts = re.findall(r"^ +fearful((?: +\d+){7}) *$", text, re.MULTILINE)
    assert [int(count) for count in counts[0].split()] == list(report.figures.confusion[2])


@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        pytest.param([0, 0, 0, 0], [0, 0, 0, 0], id="one class, all right"),
        pytest.param([0, 0, 0, 0], [1, 1, 1, 1], id="one class, all wrong"),
        pytest.param([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], id="a class missing"),
        pytest.param([0, 1, 2, 3, 4, 5, 6], [3, 3, 3, 3, 3, 3, 3], id="one class predicted"),
        pytest.param([6], [6], id="one image"),
    ],
)
def test_what_is_not_defined_says_so(tmp_path: Path, labels: list[int], predicted: list[int], undrawn: None):
    report = make_report(labels=np.array(labels), probabilities=np.eye(7, dtype=np.float32)[predicted])
    report.save(tmp_path)
    card = (tmp_path / "model-card.md").read_text()
    for text in (Page(report.to_html()).text, printed(report), card):
        assert "undefined" in text
        assert not re.search(r"\b(nan|None|inf)\b", text)
    undefined = sum(one.recall is None for one in report.figures.per_class)
    assert len(re.findall(r"^\| \w+ \| undefined", card, re.MULTILINE)) == undefined


def test_what_it_is_given_is_escaped():
    classes = (EVIL, "[b]x[/b]", "a|b")
    options = {"model": EVIL, "data": EVIL, "protocol": EVIL, "provenance": {EVIL: EVIL, "list": [EVIL]}}
    report = make_report(classes=classes, **options)
    html = report.to_html()
    assert EVIL not in html
    assert EVIL in Page(html).text
    assert EVIL not in report.to_model_card()
    assert "| a\\|b |" in report.to_model_card()
    assert printed(report, width=120).count("[b]x[/b]") == 3, "in the table of classes, and twice in the matrix"


@pytest.mark.parametrize("name", ["confusion.png", "history.png"])
def test_pictures_are_saved(saved: Path, name: str):
    picture = np.asarray(Image.open(saved / name).convert("RGB"))
    assert min(picture.shape[:2]) > 500
    assert len(np.unique(picture[::10].reshape(-1, 3), axis=0)) > 50


def test_no_history_no_curves(tmp_path: Path, undrawn: None):
    make_report().save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.json",
        "report.html",
        "model-card.md",
        "confusion.png",
        "predictions.npz",
    }


@pytest.mark.parametrize(
    "failing", [(reporting, "draw"), (plots, "as_png"), (Path, "replace")], ids=["page", "png", "rename"]
)
def test_a_failed_save_leaves_the_old_files(tmp_path: Path, monkeypatch, undrawn: None, failing):
    make_report(history=HISTORY).save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(*failing, fail)
    with pytest.raises(OSError, match="disk full"):
        make_report(model="another", history=HISTORY).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_picture_is_never_half_written(tmp_path: Path, monkeypatch, undrawn: None):
    make_report().save(tmp_path)

    def fail(path: Path, content: bytes) -> None:
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        make_report().save(tmp_path)
    assert (tmp_path / "confusion.png").read_bytes() == b"png"
    assert len(list(tmp_path.iterdir())) == 5


def test_model_card_front_matter_is_what_the_hub_reads():
    yaml = pytest.importorskip("yaml")
    report = make_report(model='say "yes": #1')
    _, front, body = report.to_model_card().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert "license" not in matter
    assert "Weights: not stated." in body
    assert matter["library_name"] == "keras"
    assert matter["pipeline_tag"] == "image-classification"
    assert matter["datasets"] == ["fer2013"]
    (entry,) = matter["model-index"]
    assert entry["name"] == 'say "yes": #1'
    (result,) = entry["results"]
    assert result["dataset"] == {"name": "FER2013", "type": "fer2013", "split": "test"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    figures = report.figures
    assert values == pytest.approx({"accuracy": figures.accuracy.value, "f1": figures.macro_f1.value}, abs=1e-4)
    for words in ("Art. 5(1)(f)", "Art. 50(3)", "Not legal advice", "not what the person feels", "## Out of scope"):
        assert words in body


def test_model_card_has_the_licence_of_the_models_file():
    yaml = pytest.importorskip("yaml")
    card = make_report(provenance={"model": {"file": "m.onnx", "licence": "CC-BY-4.0"}}).to_model_card()
    _, front, body = card.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert (matter["license"], matter["library_name"]) == ("cc-by-4.0", "onnx")
    assert "Weights: CC-BY-4.0." in body


@pytest.mark.parametrize(("point", "said"), [(None, "are the model's own"), ("balanced", "are calibrated")])
def test_page_says_whose_figures_the_headline_has(point, said):
    report = make_report(provenance={"evaluation": {"operating_point": point}})
    assert f"The figures above {said}" in dataclasses.replace(report, extras=make_extras(report)).to_html().replace(
        "&#39;", "'"
    )


def test_model_card_claims_fer2013_only_for_fer2013():
    card = make_report(data="drawn faces").to_model_card()
    assert "FER2013" not in card
    assert "datasets:" not in card


def test_figures_are_those_of_measure():
    report = make_report()
    labels = np.arange(70) % 7
    assert report.figures.to_dict() == measure(labels, make_probabilities(labels, 7), classes=EMOTIONS).to_dict()
