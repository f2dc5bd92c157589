"""A Classifier against arithmetic done here and the calibration that evaluation fits; files that are not ours refused."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mien.emotions import EMOTIONS
from mien.errors import DataError, RecipeError
from mien.evaluation.calibration import Calibration
from mien.inference import classifier as module
from mien.inference.classifier import Face, Mending, check_images, load
from mien.inference.faces import HaarDetector, WholePicture


def some_images(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, 48, 48, 1), np.uint8)


def test_predicts_the_calibrated_softmax(classifier, tiny_weights, tiny_calibration):
    images = some_images(9)
    logits = images.reshape(9, -1).astype(np.float64) @ tiny_weights.astype(np.float64)
    log_softmax = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    powers = np.exp(log_softmax / tiny_calibration["temperature"] + tiny_calibration["accuracy"])
    expected = powers / powers.sum(axis=1, keepdims=True)
    probabilities = classifier.predict(images)
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities - expected).max() < 1e-5
    assert len(set(expected.argmax(1).tolist())) > 1  # or the test could not fail


@pytest.mark.parametrize("number", [0, 1, 255, 256, 257, 600])
def test_any_number_of_images_gives_a_row_each(classifier, number):
    images = some_images(number)
    probabilities = classifier.predict(images)
    assert probabilities.shape == (number, 7)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    for row in {0, number // 2, number - 1} & set(range(number)):
        assert np.allclose(probabilities[row], classifier.predict(images[row : row + 1])[0], atol=1e-6)


rows = arrays(np.float32, (3, 7), elements=st.sampled_from([0.0, 1e-30, 1e-8, 0.01, 0.3, 0.5, 1.0]))


@given(
    rows.filter(lambda values: (values.sum(axis=1) > 0).all()),
    st.floats(0.05, 20),
    st.lists(st.floats(-5, 5), min_size=7, max_size=7),
)
def test_mends_as_calibration_does(values, temperature, offsets):
    probabilities = values / values.sum(axis=1, keepdims=True)
    ours = Mending(temperature, tuple(offsets)).apply(probabilities)
    theirs = Calibration(temperature, tuple(offsets), tuple(offsets), (1 / 7,) * 7).apply(probabilities)
    assert np.abs(ours - theirs).max() < 1e-6
    assert np.isfinite(ours).all()


def test_operating_points_are_those_of_the_file(model_path, tiny_calibration):
    images = some_images(30)
    plain = load(model_path).run(images)
    fitted = Calibration.from_dict(tiny_calibration)
    for point in ("accuracy", "balanced"):
        ours = load(model_path, operating_point=point, threads=2).predict(images)
        assert np.allclose(ours, fitted.apply(plain, operating_point=point), atol=1e-6)


def test_reads_photos_arrays_and_grey_alike(classifier, astronaut, tmp_path):
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    quick = HaarDetector().for_video()
    (face,) = classifier.read(astronaut)
    assert (face,) == classifier.read(tmp_path / "photo.png", detector=quick)
    assert (face,) == classifier.read(str(tmp_path / "photo.png"), detector=quick)
    assert face.emotion == max(face.probabilities, key=face.probabilities.get)
    assert face.confidence == face.probabilities[face.emotion]
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert tuple(face.probabilities) == EMOTIONS
    grey = np.asarray(Image.fromarray(astronaut).convert("L"))
    (same,) = classifier.read(grey, detector=quick)
    assert same.box == face.box
    assert np.allclose(list(same.probabilities.values()), list(face.probabilities.values()), atol=1e-3)


def test_reads_a_face_itself_without_a_detector(classifier):
    (image,) = some_images(1)
    (face,) = classifier.read(image, detector=WholePicture())
    assert face.box == (0, 0, 48, 48)
    assert np.allclose(list(face.probabilities.values()), classifier.predict(image[np.newaxis])[0])


def test_no_face_is_no_error(classifier):
    assert classifier.read(np.zeros((100, 100, 3), np.uint8)) == ()


def test_faces_are_plain_and_cannot_be_changed(classifier):
    (face,) = classifier.read(some_images(1)[0], detector=WholePicture())
    again = json.loads(json.dumps(face.to_dict(), allow_nan=False))
    assert list(again) == ["person", "box", "score", "emotion", "confidence", "uncertain", "probabilities"]
    assert again["box"] == [0, 0, 48, 48]
    assert all(type(value) is float for value in face.probabilities.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.emotion = "happy"
    with pytest.raises(dataclasses.FrozenInstanceError):
        classifier.classes = ()


def test_uncertain_is_below_the_minimum(model_path):
    image = some_images(1)[0]
    confidence = load(model_path).read(image, detector=WholePicture())[0].confidence
    for minimum, uncertain in ((0.0, False), (confidence, False), (min(1.0, confidence + 1e-6), True)):
        (face,) = load(model_path, minimum_confidence=minimum).read(image, detector=WholePicture())
        assert face.uncertain is uncertain


def test_a_model_says_itself_from_where_on_it_is_certain(write_model, tmp_path, model_path):
    assert load(model_path).minimum_confidence == 0.0
    path = write_model(tmp_path / "sure.onnx", thresholds='{"accuracy": 0.4, "balanced": 0.55}')
    assert load(path).minimum_confidence == 0.4
    assert load(path, operating_point="balanced").minimum_confidence == 0.55
    assert load(path, minimum_confidence=0.1).minimum_confidence == 0.1
    for wrong in ("{}", "[0.5]", '{"accuracy": 2}', '{"accuracy": "high"}'):
        with pytest.raises(DataError, match="has thresholds"):
            load(write_model(tmp_path / "wrong.onnx", thresholds=wrong))


def test_priors_move_the_probabilities_as_calibration_does(model_path, tiny_calibration):
    shares = (0.05, 0.05, 0.1, 0.2, 0.4, 0.1, 0.1)
    moved = load(model_path, priors=dict(zip(EMOTIONS, shares, strict=True)))
    expected = Calibration.from_dict(tiny_calibration).retarget(shares).apply(load(model_path).run(some_images(9)))
    np.testing.assert_allclose(moved.predict(some_images(9)), expected, atol=1e-6)


def test_faces_need_no_last_axis(classifier):
    images = some_images(3)
    np.testing.assert_array_equal(classifier.predict(images[..., 0]), classifier.predict(images))


def test_a_provider_that_onnxruntime_silently_replaces_is_an_error(model_path, monkeypatch):
    import onnxruntime

    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with (
        pytest.warns(UserWarning, match="Specified provider"),
        pytest.raises(RecipeError, match="CUDAExecutionProvider cannot be used here"),
    ):
        load(model_path, providers=there)


def test_classes_of_ones_own_work_alike(write_model, tmp_path):
    calibration = {"temperature": 1.0, "accuracy": [0, 0, 0], "balanced": [0, 0, 0], "priors": [0.2, 0.3, 0.5]}
    weights = np.random.default_rng(0).normal(0, 1e-3, (48 * 48, 3)).astype(np.float32)
    path = write_model(
        tmp_path / "own.onnx", weights=weights, classes='["bored", "keen", "müde"]', calibration=json.dumps(calibration)
    )
    classifier = load(path)
    assert classifier.classes == ("bored", "keen", "müde")
    assert classifier.predict(some_images(4)).shape == (4, 3)
    assert classifier.read(some_images(1)[0], detector=WholePicture())[0].emotion in classifier.classes


def test_one_classifier_serves_several_threads(classifier):
    images = some_images(64)
    expected = classifier.predict(images)
    with ThreadPoolExecutor(4) as pool:
        for probabilities in pool.map(classifier.predict, [images] * 16):
            assert np.allclose(probabilities, expected, atol=1e-6)


BROKEN = {
    "no format": ({"format": None}, "format ''; expected 'mien 1': use a model that `mien export` wrote"),
    "other format": ({"format": "yolo"}, "format 'yolo'"),
    "newer format": ({"format": "mien 2"}, "format 'mien 2'; expected 'mien 1': upgrade mien"),
    "no classes": ({"classes": None}, "no classes in its metadata"),
    "classes no JSON": ({"classes": "angry, sad"}, "no classes in its metadata that is JSON"),
    "classes no list": ({"classes": '{"a": 1}'}, "expected two or more different names"),
    "one class": ({"classes": '["happy"]'}, "expected two or more different names"),
    "a class twice": ({"classes": '["a", "b", "c", "d", "e", "f", "a"]'}, "expected two or more different names"),
    "a class without name": ({"classes": '["a", "b", "c", "d", "e", "f", ""]'}, "expected two or more different names"),
    "too few classes": ({"classes": '["a", "b"]'}, "has ports"),
    "no calibration": ({"calibration": None}, "no calibration in its metadata"),
    "calibration no object": ({"calibration": "[1]"}, r"calibration \[1\]"),
    "no temperature": ({"calibration": '{"accuracy": [0, 0, 0, 0, 0, 0, 0]}'}, "has calibration"),
    "temperature 0": ({"calibration": '{"temperature": 0, "accuracy": [0, 0, 0, 0, 0, 0, 0]}'}, "expected 7 numbers"),
    "temperature NaN": (
        {"calibration": '{"temperature": NaN, "accuracy": [0, 0, 0, 0, 0, 0, 0]}'},
        "expected 7 numbers",
    ),
    "too few offsets": ({"calibration": '{"temperature": 1, "accuracy": [0, 0]}'}, "expected 7 numbers"),
    "an offset of infinity": (
        {"calibration": '{"temperature": 1, "accuracy": [0, 0, 0, 0, 0, 0, Infinity]}'},
        "expected 7",
    ),
    "one image only": ({"batch": 1}, r"has ports .*\[1, 48, 48, 1\].*expected any number"),
    "float pixels": ({"kind": "FLOAT"}, r"has ports .*tensor\(float\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_is_not_ours_is_refused_with_the_reason(name, write_model, tmp_path):
    changes, reason = BROKEN[name]
    path = write_model(tmp_path / "model.onnx", **changes)
    with pytest.raises(DataError, match=reason) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused_with_the_reason(tmp_path, model_path):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(model_path.read_bytes()[:5000])
    for name in ("empty", "text", "cut"):
        with pytest.raises(DataError, match=f"{name}.onnx is no ONNX file that runs here"):
            load(tmp_path / f"{name}.onnx")
    for path, reason in (
        (tmp_path / "absent.onnx", "No such file"),
        (tmp_path, "Is a directory"),
        ("a\0.onnx", "null"),
    ):
        with pytest.raises(DataError, match=reason):
            load(path)


def test_a_network_that_gives_no_numbers_is_refused(write_model, tmp_path, tiny_weights):
    path = write_model(tmp_path / "model.onnx", weights=np.full_like(tiny_weights, np.nan))
    with pytest.raises(DataError, match="no numbers"):
        load(path).predict(some_images(2))


@pytest.fixture
def weights(tmp_path, write_model, monkeypatch):
    """A folder of models that come with mien, holding `base` and its card."""
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    path = write_model(tmp_path / "base.onnx")
    (tmp_path / "base.json").write_text(json.dumps({"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    return tmp_path


def test_a_model_that_comes_with_mien_is_loaded_by_its_name(weights):
    assert module.shipped_models() == ("base",)
    classifier = load()
    assert classifier.name == "base"
    assert classifier.sha256 == json.loads((weights / "base.json").read_text())["sha256"]
    assert classifier.metadata["licence"] == "MIT"


def test_a_model_that_is_not_as_its_card_says_is_refused(weights, write_model):
    write_model(weights / "base.onnx", recipe="another")
    with pytest.raises(DataError, match=r"base.onnx has SHA-256 .*expected .* as base.json says"):
        load("base")
    for content in ("", "[]", "{}", "no JSON"):
        (weights / "base.json").write_text(content)
        with pytest.raises(DataError, match="is no model's card"):
            load("base")
    (weights / "base.json").unlink()
    with pytest.raises(DataError, match="is no model's card"):
        load("base")


def test_a_name_without_a_model_names_the_cure(monkeypatch, tmp_path, weights):
    with pytest.raises(
        DataError, match=r"tiny is no model of mien's \(base\); expected an ONNX file: `mien export RUN`"
    ):
        load("tiny")
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "none")
    with pytest.raises(DataError, match=r"base is no model of mien's \(none comes with this version\)"):
        load("base")


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 0},
        {"operating_point": "best"},
        {"minimum_confidence": 1.1},
        {"priors": {"happy": 1.0}},
        {"priors": dict.fromkeys(EMOTIONS, 0.2)},
        {"priors": dict.fromkeys(EMOTIONS, 1 / 7), "operating_point": "balanced"},
        {"minimum_confidence": float("nan")},
        {"providers": ["TPU"]},
    ],
)
def test_options_out_of_range_are_refused(model_path, options):
    with pytest.raises(RecipeError, match="expected"):
        load(model_path, **options)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 48, 47), np.uint8),
        np.zeros((48, 48, 1), np.uint8),
        np.zeros((2, 48, 48, 3), np.uint8),
        np.zeros((2, 224, 224, 1), np.uint8),
        np.zeros((2, 48, 48, 1), np.float32),
        [[1, 2]],
        None,
    ],
)
def test_images_that_are_no_faces_are_refused(images):
    with pytest.raises(DataError, match=r"expected uint8 \(n, 48, 48, 1\): cut faces out"):
        check_images(images)


def test_the_room_is_light():
    """Neither Keras nor anything else that is heavy; and `import mien` brings none of what reading needs."""
    code = (
        "import sys; import mien; early = set(sys.modules);"
        "from mien.inference import annotate, classifier, faces, media, predict, schema, timeline;"
        "faces.HaarDetector(); heavy = {'keras', 'tensorflow', 'jax', 'torch', 'sklearn', 'scipy', 'matplotlib', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)), sorted({'cv2', 'onnxruntime', 'PIL', 'numpy'} & early))"
    )
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
    assert "mien.inference.predict" in done.stderr
    assert not {"keras", "tensorflow", "scipy"} & {
        line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()
    }


def test_onnxruntime_and_opencv_wait_until_they_are_needed():
    code = "import sys; import mien.inference.predict; print(sorted({'cv2', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_face_without_a_person_is_of_a_photo():
    face = Face((0, 0, 1, 1), 1.0, "happy", {"happy": 1.0}, 1.0, False)
    assert face.person is None
    assert face.to_dict()["person"] is None
