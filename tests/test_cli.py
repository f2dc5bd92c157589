"""The command line as a person uses it: one process a command, on drawn faces, offline."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from PIL import Image

from mien import cli
from mien.cli import choose_backend, main, models
from mien.data.drawn import draw_dataset
from mien.errors import MissingExtraError

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("MIEN_DATA", "KAGGLEHUB_CACHE")}


def mien(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "mien.cli", *map(str, arguments)],
        cwd=cwd,
        env={**ENVIRONMENT, "COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with one finished run in it."""
    folder = tmp_path_factory.mktemp("cli")
    done = mien("train", "demo", "epochs=2", "--data", "drawn", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "run"
    assert "epoch   2/2" in done.stderr
    return folder


def test_evaluate_prints_a_table_and_writes_the_report(finished):
    done = mien("evaluate", "run", cwd=finished)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "surprised" in done.stdout
    assert {"report.json", "report.html", "confusion.png", "history.png", "model-card.md"} <= {
        path.name for path in (finished / "run").iterdir()
    }


def test_evaluate_json_is_json_alone_and_equals_the_file(finished):
    done = mien("evaluate", "run", "--min-confidence", "0.5", "--json", cwd=finished)
    printed = json.loads(done.stdout)
    assert printed == json.loads((finished / "run" / "report.json").read_text())
    assert printed["figures"]["images"] == 700
    assert printed["answered"]["minimum_confidence"] == 0.5
    assert printed["provenance"]["split"]["validation_images_also_in_train"] == 0


def test_compare_prints_and_writes_one_table(finished):
    assert mien("evaluate", "run", cwd=finished).returncode == 0
    copytree(finished / "run", finished / "again", dirs_exist_ok=True)
    done = mien("compare", "run", "again", "--out", "table", cwd=finished)
    assert done.returncode == 0, done.stderr
    for words in ("again", "p = 1.000", "2 epochs", "0.0 to 0.0"):
        assert words in done.stdout.replace("+", "")
    assert {path.name for path in (finished / "table").iterdir()} == {
        "comparison.json",
        "comparison.csv",
        "comparison.html",
    }
    printed = json.loads(mien("compare", "run", "again", "--out", "table", "--json", cwd=finished).stdout)
    assert printed == json.loads((finished / "table" / "comparison.json").read_text())
    first = printed["runs"][0]
    assert (first["parameters"] > 0, first["multiply_adds"] > first["parameters"]) == (True, True)


def test_verify_says_whether_a_report_holds(finished):
    assert mien("evaluate", "run", cwd=finished).returncode == 0
    report = finished / "run" / "report.json"
    holds = mien("evaluate", "run/report.json", "--verify", cwd=finished)
    assert (holds.returncode, holds.stdout.strip()) == (0, "run/report.json holds"), holds.stderr
    told = report.read_text()
    accuracy = json.loads(told)["figures"]["accuracy"]["value"]
    report.write_text(told.replace(f'"value": {accuracy}', f'"value": {accuracy + 0.01}', 1))
    broken = mien("evaluate", "run/report.json", "--verify", cwd=finished)
    assert broken.returncode == 1
    assert f"accuracy is {accuracy:.4f}; the report says {accuracy + 0.01:.4f}" in broken.stderr
    report.write_text(told)


def test_calibrate_fits_and_retargets(finished):
    assert "temperature" in mien("calibrate", "run", cwd=finished).stdout
    fitted = json.loads((finished / "run" / "calibration.json").read_text())
    classes = fitted["classes"]
    shares = ",".join(f"{name}={0.4 if name == 'happy' else 0.1}" for name in classes)
    assert mien("calibrate", "run", "--priors", shares, cwd=finished).returncode == 0
    moved = json.loads((finished / "run" / "calibration.json").read_text())
    assert moved["priors"] == [0.4 if name == "happy" else 0.1 for name in classes]
    assert moved["temperature"] == fitted["temperature"]
    assert moved["accuracy"] != fitted["accuracy"]


def test_audit_writes_what_it_found(tmp_path):
    done = mien("audit", "drawn", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["figures"]["images"] == 3500
    assert {path.name for path in (tmp_path / "audit").iterdir()} == {"audit.json", "audit.csv", "audit.html"}


def test_data_info_counts(tmp_path):
    done = mien("data", "info", "--data", "drawn", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert sum(facts["counts"]["Training"].values()) == 2800
    assert "3,500 images" in mien("data", "info", "--data", "drawn", cwd=tmp_path).stdout


def test_oversampled_images_are_written(tmp_path):
    words = ("data", "oversample", "--class", "disgusted", "--to", "60", "--data", "drawn", "--out", "more")
    assert mien(*words, cwd=tmp_path).stdout.strip() == "more"
    assert len(list((tmp_path / "more" / "train" / "disgusted").glob("*.png"))) == 60


def test_recipes_are_listed(tmp_path):
    assert "baseline" in mien("recipes", cwd=tmp_path).stdout


def test_an_exported_run_reads_faces(finished, tmp_path):
    """From a run to what `mien predict` says of a drawn face, through the file."""
    pytest.importorskip("tf2onnx")
    done = mien("export", "run", "--out", tmp_path, "--json", cwd=finished, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    exports = json.loads(done.stdout)
    assert [Path(found["path"]).name for found in exports] == ["demo.onnx", "demo-fp16.onnx", "demo-int8.onnx"]
    Image.fromarray(draw_dataset(training=70, test=14).test.images[0, ..., 0]).save(tmp_path / "face.png")
    for found in exports:
        done = mien("predict", "face.png", "--detector", "none", "--model", found["path"], "--jsonl", cwd=tmp_path)
        assert len(json.loads(done.stdout)["faces"]) == 1


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["train"], "expected a recipe"),
        (["train", "basline", "--data", "drawn"], "no recipe 'basline'; expected one of baseline"),
        (["train", "baseline", "epoch=1", "--data", "drawn"], "there is no choice 'epoch'; expected one of"),
        (["train", "baseline", "epochs=x", "--data", "drawn"], "epochs is 'x'; expected a whole number"),
        (["train", "baseline", "--data", "nowhere"], "nowhere does not exist"),
        (["train", "--resume", "nowhere"], "nowhere is no run"),
        (["train", "baseline", "--resume", "nowhere"], "expected no recipe"),
        (["evaluate", "nowhere"], "nowhere is no run"),
        (["export", "nowhere"], "nowhere is no run"),
        (["evaluate", "run/recipe.json", "--verify"], "expected a report.json"),
        (["audit", "nowhere"], "nowhere does not exist"),
        (["compare", "run"], "1 run came; expected two or more"),
        (["compare", "nowhere", "run"], "nowhere/report.json does not exist; expected an evaluated run"),
        (
            ["train", "baseline", "--data", "drawn", "--track", "tensorbord"],
            "no tracker 'tensorbord'; expected some of",
        ),
        (["evaluate", "run", "--track", "tensorbord"], "no tracker 'tensorbord'; expected some of"),
        (["calibrate", "run", "--priors", "happy"], "expected class=share"),
        (["calibrate", "run", "--priors", "happy=1"], "expected each of angry, disgusted"),
        (["train", "votes", "model=compact", "--data", "drawn", "--out", "new"], "give --votes FILE"),
        (["evaluate", "run", "--protocol", "official"], "expected FER2013 itself"),
        (["train", "--resume", "run"], "run is finished after 2 epochs"),
        (["distill", "run", "base", "--student", "tiny"], "base is neither a run nor an ONNX file, but run is; ex"),
        (["distill", "run", "--student", "tiny", "--teachers-in", "x"], "expected them with recipes alone"),
        (["distill", "run", "--student", "tiny", "--folds", "2"], "expected them with recipes alone"),
        (["train", "--resume", "run", "--skip-bad"], "expected no recipe, field=value, --out, --votes or --skip-bad"),
        (["evaluate", "tiny", "--track", "mlflow"], "tiny is a model's file, which no tracker shows; expected a run"),
        (["evaluate", "run/report.json", "--verify", "--json"], "--json came with --verify; expected none"),
        (["distill", "base", "--student", "tiny", "--folds", "1", "--skip-bad"], "folds is 1; expected a whole number"),
        (["ensemble", "run", "run", "--out", "run"], "run is a run; expected a folder of its own for the ensemble"),
        (["doubts", "votes", "--data", "drawn"], "has targets=votes; expected a recipe that learns from labels alone"),
        (["distill", "nowhere", "--student", "tiny"], "there is no recipe 'nowhere'"),
        (["train", "baseline", "--data", "drawn", "--out", "run"], "run is not empty"),
        (["data", "info", "--data", "nowhere"], "nowhere does not exist"),
        (
            ["data", "oversample", "--class", "disgusted", "--to", "2", "--data", "drawn", "--out", "new"],
            "images already; expected a target of at least that, not 2",
        ),
        (
            [
                "data",
                "oversample",
                "--class",
                "disgusted",
                "--to",
                "60",
                "--data",
                "drawn",
                "--out",
                "run/recipe.json/new",
            ],
            "cannot be used (Not a directory)",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(finished, monkeypatch, capsys, arguments, answer):
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "argv", ["mien", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert answer in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    def fill(arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "app", fill)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("error: a file cannot be written (No space left on device); free space")


@pytest.mark.parametrize(("backend", "cure"), [("torch", "pip install torch"), ("jax", r"pip install 'mien\[jax\]'")])
def test_a_backend_that_is_not_there_is_named_with_its_cure(monkeypatch, backend, cure):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == backend else True)
    with pytest.raises(MissingExtraError, match=f"compute with {backend}, which is not installed; run: {cure}"):
        choose_backend(backend)


def test_models_are_listed_where_they_cannot_be_timed(monkeypatch, capsys):
    def refuse(network):
        raise MissingExtraError("tf2onnx is not installed; run: pip install 'mien[export]'")

    monkeypatch.setattr("mien.training.export.milliseconds_per_face", refuse)
    models("compact")
    printed = capsys.readouterr()
    assert "0.3 M" in printed.out
    assert "not timed: tf2onnx is not installed; run: pip install 'mien[export]'" in printed.err


def test_without_a_network_the_ways_out_are_named(tmp_path):
    done = mien("data", "fetch", cwd=tmp_path, KAGGLEHUB_CACHE=str(tmp_path), HTTPS_PROXY="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "--data drawn" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_runs_on_drawn_faces_when_nothing_is_at_hand(tmp_path):
    done = mien("demo", "epochs=1", cwd=tmp_path, KAGGLEHUB_CACHE=str(tmp_path), HTTPS_PROXY="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "using drawn faces" in done.stderr
    page, picture = (tmp_path / line for line in done.stdout.strip().splitlines()[-2:])
    assert picture.read_bytes().startswith(b"\xff\xd8")  # a JPEG of the photo that was read
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_importing_mien_is_light():
    code = "import sys, mien.cli; print([name for name in ('keras', 'tensorflow', 'cv2', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
