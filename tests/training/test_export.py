"""A small run on drawn faces, exported: each file is Keras' equal, carries what it says it does, or is not there."""

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
from rich.console import Console

import mien
from mien.errors import MissingExtraError, RunError
from mien.evaluation.calibration import Calibration
from mien.models import build_network
from mien.recipes import find_recipe
from mien.training import export as module
from mien.training.export import export_run, quiet, read_calibration, to_onnx, write_model
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.session import split_of, start_run
from mien.training.trained import load_trained

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")
pytest.importorskip("sympy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, and its exports."""
    path = tmp_path_factory.mktemp("export") / "run"
    start_run(find_recipe("demo").override("epochs=3"), data="drawn", out=path, console=Console(quiet=True))
    return path, export_run(path, licence="MIT")


@pytest.fixture(scope="module")
def images(finished):
    return split_of(Run.open(finished[0])).test.images


@pytest.fixture(scope="module")
def keras_says(finished, images):
    return load_trained(Run.open(finished[0])).predict(images)


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run", ignore=shutil.ignore_patterns("export", "checkpoints"))
    return tmp_path / "run"


def test_every_precision_is_written_with_its_card(finished):
    path, exports = finished
    assert [found.precision for found in exports] == ["fp32", "fp16", "int8"]
    for found in exports:
        card = json.loads(found.path.with_suffix(".json").read_text())
        assert card["sha256"] == found.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
        assert card["bytes"] == found.bytes
        assert (card["precision"], card["name"], card["licence"]) == (found.precision, found.path.stem, "MIT")
        assert card["agreement"] == found.agreement
    assert sorted(file.name for file in (path / "export").iterdir()) == [
        f"demo{suffix}.{kind}" for suffix in ("-fp16", "-int8", "") for kind in ("json", "onnx")
    ]


def test_fp32_is_keras_at_any_batch(finished, images, keras_says):
    classifier = mien.load(finished[1][0].path)
    for number in (1, 2, 63, len(images)):
        assert np.abs(classifier.run(images[:number]) - keras_says[:number]).max() <= 1e-5
    assert classifier.run(images[:0]).shape == (0, 7)
    assert finished[1][0].difference <= 1e-5


def test_predict_is_keras_calibrated(finished, images, keras_says):
    calibration = Calibration.from_dict(json.loads(mien.load(finished[1][0].path).metadata["calibration"]))
    for point in ("accuracy", "balanced"):
        expected = calibration.apply(keras_says, operating_point=point)
        found = mien.load(finished[1][0].path, operating_point=point).predict(images)
        assert np.abs(found - expected).max() <= 1e-4
    assert calibration.temperature != 1.0


@pytest.mark.parametrize(("row", "share", "agreement"), [(1, 0.6, 0.995), (2, 0.45, 0.94)])
def test_smaller_files_say_nearly_the_same(finished, images, keras_says, row, share, agreement):
    found = finished[1][row]
    probabilities = mien.load(found.path).run(images)
    assert found.bytes < share * finished[1][0].bytes
    assert np.mean(probabilities.argmax(axis=1) == keras_says.argmax(axis=1)) >= agreement
    assert found.agreement >= agreement
    assert abs(found.accuracy_change) <= 0.03  # a few of some hundred images
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities - keras_says).max() > 1e-5  # not the same file under another name


def test_the_file_says_what_it_is(finished):
    run = Run.open(finished[0])
    metadata = mien.load(finished[1][2].path).metadata
    assert metadata["format"] == "mien 1"
    assert json.loads(metadata["classes"]) == list(run.split["train"]["counts"])
    assert Recipe.from_dict(json.loads(metadata["recipe"])) == run.recipe
    hashes = json.loads(metadata["hashes"])
    assert hashes["model.keras"] == hashlib.sha256(run.model_path.read_bytes()).hexdigest()
    assert hashes["validation"] == run.split["validation"]["sha256"]
    thresholds = json.loads(metadata["thresholds"])
    assert mien.load(finished[1][2].path).minimum_confidence == thresholds["accuracy"]
    assert (metadata["geometry"], metadata["precision"], metadata["licence"]) == ("48x48x1", "int8", "MIT")


@pytest.fixture
def exported_before(finished, monkeypatch):
    """Export from the ONNX file that is there, since going through TensorFlow takes long; change it first as asked."""

    def use(change=lambda model: None):
        model = onnx.load(finished[1][0].path)
        change(model)
        monkeypatch.setattr(module, "to_onnx", lambda network, folder: model)

    return use


def mix_up(model) -> None:
    """Let each output of the last layer stand for another class."""
    weights = [weight for weight in model.graph.initializer if len(weight.dims) == 2 and weight.dims[1] == 7]
    for weight in weights:
        rolled = np.roll(onnx.numpy_helper.to_array(weight), 1, axis=1)
        weight.CopyFrom(onnx.numpy_helper.from_array(rolled, weight.name))
    assert weights


def test_what_differs_too_far_is_refused_and_leaves_what_was_there(copy, exported_before):
    exported_before()
    good = export_run(copy, out=copy / "out", name="mine", licence="")
    assert [(found.path.name, found.refused) for found in good] == [
        ("mine.onnx", None),
        ("mine-fp16.onnx", None),
        ("mine-int8.onnx", None),
    ]
    assert mien.load(good[0].path).metadata["licence"] == ""
    before = {path.name: path.read_bytes() for path in (copy / "out").iterdir()}
    exported_before(mix_up)
    bad = export_run(copy, out=copy / "out", name="mine", licence="none")
    assert "probabilities differ by" in bad[0].refused
    assert "expected at most 1e-05" in bad[0].refused
    assert "fewer images right; expected at most 1%" in bad[1].refused
    assert "fewer images right; expected at most 1%" in bad[2].refused
    assert {path.name: path.read_bytes() for path in (copy / "out").iterdir()} == before


def test_a_calibration_in_the_folder_is_the_one_that_is_kept(copy):
    run = Run.open(copy)
    classes = tuple(run.split["train"]["counts"])
    assert read_calibration(run, classes) is None
    given = Calibration(3.0, (0.1,) * 7, (0.2,) * 7, (1 / 7,) * 7)
    (copy / "calibration.json").write_text(json.dumps({"classes": classes, **given.to_dict()}))
    assert read_calibration(run, classes) == given
    with pytest.raises(RunError, match="calibration.json is for classes"):
        read_calibration(run, classes[::-1])


def test_other_images_than_the_runs_are_refused(copy):
    split = json.loads((copy / "split.json").read_text())
    split["validation"]["sha256"] = "0" * 64
    (copy / "split.json").write_text(json.dumps(split))
    with pytest.raises(
        RunError, match="the validation images hash to .* began with 000000000000; give --data the images it began with"
    ):
        export_run(copy)


def test_an_unfinished_run_is_refused(copy):
    (copy / "model.keras").unlink()
    with pytest.raises(RunError, match="is not finished, after"):
        export_run(copy)


def test_a_missing_package_names_its_extra(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(MissingExtraError, match=r"sympy is not installed; run: pip install 'mien\[export\]'"):
        export_run(copy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["baseline", "vgg", "transformer", "efficientnet"])
def test_every_kind_of_network_is_keras_equal(name, images, tmp_path):
    """Layers that the compact network lacks; weights are as initialised."""
    import onnxruntime

    network = build_network(name)
    with quiet():
        path = write_model(to_onnx(network, tmp_path), {}, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    for number in (1, 16):
        expected = network.predict(images[:number], verbose=0)
        assert np.abs(session.run(None, {"image": images[:number]})[0] - expected).max() <= 1e-5
