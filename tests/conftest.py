"""Fixtures that several rooms' tests share: the real FER2013 where it is at hand, and drawn faces everywhere."""

import json
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mien.emotions import EMOTIONS

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]

settings.register_profile("mien", deadline=None)  # a busy machine is no fault
settings.load_profile("mien")

# Tests send Ctrl-C to children, which would ignore it where a shell runs the tests in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Tests neither read nor write the user's cache; those on the real FER2013 share one, since decoding takes seconds."""
    shared = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("MIEN_CACHE", str(shared))


@pytest.fixture(scope="session")
def fer2013() -> Path:
    """The real data set's folder, or a skip that says where it was sought."""
    for folder in (os.environ.get("MIEN_DATA"), ROOT.parent / "shared" / "fer2013"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("FER2013 is neither at MIEN_DATA nor at ../shared/fer2013")


@pytest.fixture(scope="session")
def drawn():
    """A small drawn data set: 280 training and 70 test faces."""
    from mien.data.drawn import draw_dataset

    return draw_dataset(training=280, test=70)


WEIGHTS = np.random.default_rng(7).normal(0, 2e-3, (48 * 48, len(EMOTIONS))).astype(np.float32)
CALIBRATION = {
    "temperature": 1.5,
    "accuracy": [0.0, 0.3, -0.2, 0.1, 0.0, -0.4, 0.2],
    "balanced": [0.0, 1.3, 0.2, -0.5, 0.0, 0.4, 0.2],
    "priors": [0.14, 0.02, 0.14, 0.25, 0.17, 0.17, 0.11],
}
METADATA = {
    "format": "mien 1",
    "classes": json.dumps(EMOTIONS),
    "calibration": json.dumps(CALIBRATION),
    "geometry": "48x48x1",
    "recipe": "{}",
    "hashes": "{}",
    "licence": "MIT",
}


def write(path: Path, *, weights=WEIGHTS, batch="n", kind="UINT8", **metadata) -> Path:
    """A tiny ONNX model as `mien export` writes one: a softmax over a linear map of the pixels; None takes an entry out of the metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    classes = weights.shape[1]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=types.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", getattr(types, kind), (batch, 48, 48, 1))],
        [helper.make_tensor_value_info("probabilities", types.FLOAT, (batch, classes))],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    entries = {**METADATA, **metadata}
    helper.set_model_props(model, {key: value for key, value in entries.items() if value is not None})
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def write_model():
    return write


@pytest.fixture(scope="session")
def tiny_weights() -> np.ndarray:
    """The linear map of the tiny model, float32 (2304, 7)."""
    return WEIGHTS


@pytest.fixture(scope="session")
def tiny_calibration() -> dict:
    return CALIBRATION


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def classifier(model_path):
    from mien.inference.classifier import load

    return load(model_path, threads=1)
