"""A model's file is judged by ONNX Runtime alone, as `mien predict` uses it, and its report can be checked."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.data.dataset import CARVED
from mien.data.splits import split
from mien.errors import DataError
from mien.evaluation import model_file
from mien.evaluation.model_file import evaluate_file, is_about_model, is_model, verify_file
from mien.inference.classifier import load


@pytest.fixture(autouse=True)
def few_faces(drawn, monkeypatch):
    monkeypatch.setattr(model_file, "name_source", lambda data: data or "drawn")
    monkeypatch.setattr(model_file, "open_data", lambda source, **_: drawn)


def test_a_file_is_judged_by_what_it_says_after_calibration(model_path, drawn):
    report = evaluate_file(str(model_path))
    said = load(model_path).predict(drawn.test.images)
    assert report.figures.accuracy.value == np.mean(said.argmax(axis=1) == drawn.test.labels)
    assert report.figures.nll == pytest.approx(-np.log(said[np.arange(len(said)), drawn.test.labels]).mean(), rel=1e-4)
    assert report.provenance["model"]["sha256"] == load(model_path).sha256
    assert report.provenance["model"]["licence"] == "MIT"


def test_the_balanced_point_is_another_judgement(model_path):
    points = [evaluate_file(str(model_path), operating_point=point) for point in ("accuracy", "balanced")]
    assert points[0].figures.nll != pytest.approx(points[1].figures.nll)
    assert [report.provenance["model"]["operating_point"] for report in points] == ["accuracy", "balanced"]


def test_the_images_are_split_as_the_models_were(write_model, tmp_path, drawn):
    recipe = {"validation_share": 0.3, "split_seed": 5}
    path = write_model(tmp_path / "model.onnx", recipe=json.dumps(recipe))
    evaluated = evaluate_file(str(path)).provenance["evaluation"]
    assert evaluated["validation_sha256"] == split(drawn, validation_share=0.3, seed=5).validation.sha256


def test_a_report_holds_until_the_model_or_a_figure_changes(model_path, tmp_path, write_model, tiny_weights):
    path = write_model(tmp_path / "model.onnx")
    evaluate_file(str(path)).save(tmp_path)
    report = tmp_path / "report.json"
    assert is_about_model(report)
    assert verify_file(report) == []
    write_model(path, weights=tiny_weights[::-1].copy())
    first, *rest = verify_file(report)
    assert "the model is" in first
    assert any("accuracy" in fault or "nll" in fault for fault in rest)


def test_other_classes_are_refused(model_path, drawn, monkeypatch):
    others = replace(drawn, classes=tuple(f"class {number}" for number in range(7)))
    monkeypatch.setattr(model_file, "open_data", lambda source, **_: others)
    with pytest.raises(
        DataError, match="the images have classes class 0.*expected angry, disgusted.*tiny was trained on"
    ):
        evaluate_file(str(model_path))


def test_a_model_is_known_by_its_ending(model_path, tmp_path):
    assert is_model(model_path)
    assert not is_model(tmp_path)


def test_a_run_may_have_the_name_of_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_model(Path("base"))
    Path("base").mkdir()
    assert is_model(Path("base"))
    for name in ("recipe.json", "ensemble.json"):
        Path("base", name).write_text("{}")
        assert not is_model(Path("base"))
        Path("base", name).unlink()


def test_a_model_is_told_apart_from_images_that_it_may_know(write_model, tmp_path, drawn, monkeypatch):
    hashes = {"train": split(drawn, validation_share=0.2, seed=42).train.sha256}
    path = write_model(tmp_path / "model.onnx", hashes=json.dumps(hashes))
    assert "note" not in evaluate_file(str(path)).provenance["model"]
    other = drawn.take(np.arange(1, len(drawn)))
    monkeypatch.setattr(model_file, "open_data", lambda source, **_: other)
    assert "note" not in evaluate_file(str(path)).provenance["model"]  # what tests it was given apart
    monkeypatch.setattr(model_file, "open_data", lambda source, **_: replace(other, notes=(f"{CARVED} 70",)))
    assert "model was trained on another set of images" in evaluate_file(str(path)).provenance["model"]["note"]


def test_no_keras_is_needed(model_path, tmp_path):
    code = (
        "import sys; from mien.cli import app; "
        f"app(['evaluate', {str(model_path)!r}, '--data', 'drawn', '--json']); "
        "sys.exit(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "tiny"
    assert (tmp_path / "tiny-report" / "report.html").exists()


def test_data_and_what_is_to_be_left_out_are_passed_on(model_path, drawn, monkeypatch, tmp_path):
    asked = []

    def open_data(source, *, skip_bad, track):
        asked.append((source, skip_bad))
        return drawn

    monkeypatch.setattr(model_file, "open_data", open_data)
    report = evaluate_file(str(model_path), data="my-faces", skip_bad=True)
    assert report.data == "my-faces"
    report.save(tmp_path)
    assert verify_file(tmp_path / "report.json", data="my-faces", skip_bad=True) == []
    assert asked == [("my-faces", True)] * 2


def test_votes_are_placed_by_the_csv_that_is_the_data(model_path, monkeypatch, tmp_path):
    csv = tmp_path / "fer2013.csv"
    csv.write_text("")
    asked = []

    def evaluate(*parts, votes, fer2013_csv, **options):
        asked.append((votes, fer2013_csv))
        return model_file_evaluate(*parts, **options)

    model_file_evaluate = model_file.evaluate
    monkeypatch.setattr(model_file, "evaluate", evaluate)
    evaluate_file(str(model_path), data=str(csv), votes=tmp_path / "fer2013new.csv")
    assert asked == [(tmp_path / "fer2013new.csv", csv)]
