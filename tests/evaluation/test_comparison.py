import csv
import json
import re
from contextlib import suppress
from dataclasses import replace
from html import escape
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

from mien.data.dataset import Dataset
from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.evaluation.comparison import compare_reports, duration
from mien.evaluation.predictions import Predictions, load_predictions, save_predictions
from mien.evaluation.report import build_report

IMAGES = 700
HISTORY = [{"epoch": epoch, "val_accuracy": 0.5, "seconds": 90.5} for epoch in (1, 2, 3)]


def make_test(*, images=IMAGES, seed=0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.r_[np.arange(images - 20) % 7, np.full(20, 3)])
    labels[labels == 1] = np.where(np.arange((labels == 1).sum()) < 10, 1, 0)  # few are disgusted, as in FER2013
    names = np.array([f"test/{EMOTIONS[label]}/im{index}.png" for index, label in enumerate(labels)])
    pixels = rng.integers(0, 256, (images, 48, 48, 1), np.uint8)
    return Dataset(pixels, labels, names, np.full(images, "Test"))


def predict(test: Dataset, *, right: np.ndarray) -> np.ndarray:
    """Probabilities that are right exactly where asked, and one class off elsewhere."""
    predicted = np.where(right, test.labels, (test.labels + 1) % 7)
    probabilities = np.full((len(test), 7), 0.05, np.float32)
    probabilities[np.arange(len(test)), predicted] = 0.7
    return probabilities


def leave_run(folder, test, right, *, provenance=None, history=HISTORY, model="baseline"):
    """A run's folder as `mien evaluate` leaves it."""
    probabilities = predict(test, right=right)
    known = {
        "costs": {"parameters": 310_000, "multiply_adds": 12_340_000},
        "trained with": {"processor": "Abacus 2", "cores": 2, "backend": "tensorflow"},
        "evaluation": {"test_sha256": test.sha256},
    }
    report = build_report(
        test,
        probabilities,
        model=model,
        data="drawn",
        protocol="kaggle",
        provenance=known if provenance is None else provenance,
        history=history,
    )
    report.save(folder)
    return folder


@pytest.fixture(scope="module")
def faces():
    return make_test()


@pytest.fixture(scope="module")
def folders(tmp_path_factory, faces):
    """Three runs: right on the first 400, the first 460, and on 200 to 595 of the images."""
    root, rows = tmp_path_factory.mktemp("runs"), np.arange(IMAGES)
    return [
        leave_run(root / "first", faces, rows < 400),
        leave_run(root / "better", faces, rows < 460, model="vgg"),
        leave_run(root / "other <b>", faces, (rows >= 200) & (rows < 595)),
    ]


@pytest.fixture(scope="module")
def comparison(folders):
    return compare_reports(folders)


def printed(comparison, *, width=80) -> str:
    console = Console(file=StringIO(), width=width)
    comparison.print(console)
    return console.file.getvalue()


def test_figures_are_those_of_the_predictions(comparison, faces):
    first, better, other = comparison.runs
    assert [run.accuracy.value for run in comparison.runs] == pytest.approx([400 / 700, 460 / 700, 395 / 700])
    assert first.against_first is None
    assert better.against_first.accuracy_difference.value == pytest.approx(60 / 700)
    assert (better.against_first.first_only, better.against_first.second_only) == (0, 60)
    assert (other.against_first.first_only, other.against_first.second_only) == (200, 195)
    assert other.against_first.p_value == pytest.approx(binomtest(200, 395).pvalue)
    assert better.against_first.p_value == pytest.approx(2 * 0.5**60)
    disgusted = faces.labels == 1
    assert first.recalls["disgusted"].value == pytest.approx(disgusted[:400].sum() / disgusted.sum())
    assert comparison.rarest == "disgusted"
    assert comparison.supports["disgusted"] == 10
    assert comparison.test_sha256 == faces.sha256


def test_costs_are_those_of_the_reports(comparison):
    run = comparison.runs[1]
    assert (run.name, run.model) == ("better", "vgg")
    assert (run.parameters, run.multiply_adds) == (310_000, 12_340_000)
    assert (run.epochs, run.seconds) == (3, pytest.approx(271.5))
    assert run.hardware == "Abacus 2, 2 cores, tensorflow"


def test_what_a_report_does_not_say_is_left_open(tmp_path, faces):
    right = np.arange(IMAGES) % 2 == 0
    folders = [leave_run(tmp_path / name, faces, right, provenance={}, history=()) for name in "ab"]
    comparison = compare_reports(folders)
    run = comparison.runs[1]
    costs = (run.parameters, run.multiply_adds, run.epochs, run.seconds, run.hardware)
    assert costs == (None, None, None, None, None)
    assert run.against_first.p_value == 1
    assert "unknown hardware" in printed(comparison)
    assert "unknown hardware" in comparison.to_html()


def test_an_outcome_is_told_in_words(comparison):
    first, better, other = comparison.runs
    assert comparison.in_words == (
        "better is right most often, 65.7% of the time: 8.6 points more than first, "
        "which chance alone would hardly bring about (p < 0.001, corrected for 2 comparisons)."
    )
    luck = replace(other, accuracy=better.accuracy)
    assert "which may well be chance (p = 0.8" in replace(comparison, runs=(first, luck)).in_words
    assert replace(comparison, runs=(first, other)).in_words == (
        "No run is right more often than first, the first: 57.1%."
    )
    middling = replace(better, against_first=replace(better.against_first, p_value=0.0123))
    assert "(p = 0.012)" in replace(comparison, runs=(first, middling)).in_words
    corrected = "which chance alone would hardly bring about (p = 0.037, corrected for 3 comparisons)"
    assert corrected in replace(comparison, runs=(first, other, other, middling)).in_words
    many = replace(comparison, runs=(first, *[other] * 4, middling))
    assert "which may well be chance (p = 0.061, corrected for 5 comparisons)" in many.in_words


@pytest.mark.parametrize("width", [80, 120])
def test_one_table_says_it_all(comparison, width):
    text = printed(comparison, width=width)
    assert max(map(len, text.splitlines())) <= width
    for words in (
        "drawn, kaggle protocol, 700 images",
        "57.1%",
        "53.4–60.9",
        "+8.6",
        "+6.6 to +10.7",
        "p < 0.001",
        "p = 0.8",
        "3 epochs",
        "0.31 M",
        "5 min",
        "trained on Abacus 2, 2 cores, tensorflow",
        "other <b>",
    ):
        assert words in text


def test_runs_on_several_machines_are_told_apart(comparison):
    first, better, other = comparison.runs
    text = printed(replace(comparison, runs=(first, replace(better, hardware="Abacus 3"), other)))
    assert "first: Abacus 2, 2 cores, tensorflow" in text
    assert "better: Abacus 3" in text


def test_runs_that_were_not_judged_alike_are_told_so(folders, faces, tmp_path):
    assert "not judged alike" not in compare_reports(folders).in_words
    seen = {"test_sha256": faces.sha256, "views": "warps", "operating_point": "balanced"}
    folder = leave_run(tmp_path / "warped", faces, np.arange(IMAGES) < 460, provenance={"evaluation": seen})
    both = {"recipe": {"ensemble": []}, "evaluation": {"test_sha256": faces.sha256}}
    ensemble = leave_run(tmp_path / "both", faces, np.arange(IMAGES) < 460, provenance=both)
    assert "both by views single, members calibrated" in compare_reports([folders[0], ensemble]).in_words
    comparison = compare_reports([folders[0], folder])
    words = "first by views single, uncalibrated; warped by views warps, operating point balanced."
    assert words in comparison.in_words
    assert words in " ".join(printed(comparison).split())
    assert words in comparison.to_html()


def test_files_hold_the_same_figures(comparison, tmp_path):
    comparison.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "comparison.csv",
        "comparison.html",
        "comparison.json",
    ]
    saved = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(StringIO((tmp_path / "comparison.csv").read_text(encoding="utf-8"))))
    for run, kept, row in zip(comparison.runs, saved["runs"], rows, strict=True):
        assert kept["name"] == row["run"] == run.name
        assert kept["accuracy"]["low"] == float(row["accuracy_low"]) == run.accuracy.low
        assert float(row["recall_disgusted"]) == run.recalls["disgusted"].value
        assert float(row["seconds"]) == run.seconds
    assert int(row["multiply_adds"]) == run.multiply_adds
    assert rows[0]["p_value"] == rows[0]["accuracy_difference_high"] == ""
    assert float(rows[1]["macro_f1_difference"]) == comparison.runs[1].against_first.macro_f1_difference.value
    assert (rows[2]["first_only"], rows[2]["second_only"]) == ("200", "195")


def test_the_page_needs_nothing_else_and_escapes_names(comparison):
    page = comparison.to_html()
    assert "other &lt;b&gt;" in page
    assert "other <b>" not in page
    assert not re.search(r"https?:|src=|@import|url\(", page)
    for words in (
        "+8.6",
        "(+6.6 to +10.7)",
        "195 : 200",
        "disgusted recall",
        "0.31 M",
        "12.34 M",
        "Abacus 2",
        escape(comparison.in_words),
    ):
        assert words in page
    assert page.count('class="better"') == 2  # accuracy and macro-F1 of the one run that is
    assert page.count("<tr>") == page.count("</tr>") == 3 + 3 + 7 + 3


def test_predictions_are_read_as_they_were_kept(tmp_path, faces):
    probabilities = predict(faces, right=np.arange(IMAGES) < 5)
    predictions = Predictions(faces.names, faces.labels, probabilities, faces.sha256)
    save_predictions(tmp_path / "predictions.npz", predictions)
    kept = load_predictions(tmp_path / "predictions.npz")
    assert np.array_equal(kept.probabilities, probabilities)
    assert kept.probabilities.dtype == np.float32
    assert np.array_equal(kept.labels, faces.labels)
    assert np.array_equal(kept.names, faces.names)
    assert kept.test_sha256 == faces.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_other_test_images_are_refused_by_their_hash(folders, tmp_path):
    fewer = make_test(images=690)
    leave_run(tmp_path / "elsewhere", fewer, np.arange(690) < 300)
    with pytest.raises(DataError, match=rf"other test images \({fewer.sha256[:12]}\) than .*first .*--protocol$"):
        compare_reports([*folders, tmp_path / "elsewhere"])


def test_predictions_of_another_evaluation_are_refused(folders, tmp_path, faces):
    right = np.arange(IMAGES) < 300
    folder = leave_run(tmp_path / "stale", faces, right)
    other = Predictions(faces.names, faces.labels, predict(faces, right=~right), faces.sha256)
    save_predictions(folder / "predictions.npz", other)
    with pytest.raises(DataError, match="predictions of one evaluation and the report of another.*mien evaluate"):
        compare_reports([folders[0], folder])
    folder = leave_run(tmp_path / "moved", faces, right, provenance={"evaluation": {"test_sha256": "0" * 64}})
    with pytest.raises(DataError, match="predictions of one evaluation"):
        compare_reports([folders[0], folder])


@pytest.mark.parametrize("name", ["report.json", "predictions.npz"])
def test_a_run_not_evaluated_names_its_cure(folders, tmp_path, faces, name):
    folder = leave_run(tmp_path / "run", faces, np.arange(IMAGES) < 300)
    (folder / name).write_bytes(b"{}")
    with pytest.raises(DataError, match=rf"{name} cannot be read .* mien evaluate .*run$"):
        compare_reports([folders[0], folder])
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} does not exist; .* mien evaluate .*run$"):
        compare_reports([folders[0], folder])


def test_damaged_predictions_are_one_line(folders, tmp_path):
    whole = (folders[0] / "predictions.npz").read_bytes()
    path = tmp_path / "predictions.npz"
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        with suppress(DataError):
            load_predictions(path)


def test_a_report_of_another_format_is_refused(folders, tmp_path, faces):
    folder = leave_run(tmp_path / "run", faces, np.arange(IMAGES) < 300)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    (folder / "report.json").write_text(json.dumps({**report, "format": 99}), encoding="utf-8")
    with pytest.raises(DataError, match="its format is 99, not 1"):
        compare_reports([folders[0], folder])


def test_one_run_is_no_comparison(folders):
    with pytest.raises(DataError, match="1 run came; expected two or more"):
        compare_reports(folders[:1])
    with pytest.raises(DataError, match="first came twice"):
        compare_reports([folders[0], folders[1], folders[0]])


def test_runs_of_one_name_are_told_apart_by_their_paths(folders, tmp_path, faces):
    folder = leave_run(tmp_path / "first", faces, np.arange(IMAGES) < 300)
    names = [run.name for run in compare_reports([folders[0], folder]).runs]
    assert names == [str(folders[0]), str(folder)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0 s"), (45.0, "45 s"), (300.0, "5 min"), (5399.0, "90 min"), (12600.0, "3.5 h")],
)
def test_durations_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text
