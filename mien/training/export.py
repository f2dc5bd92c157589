"""A finished run in; ONNX files that read faces without Keras, each compared with its network before it is kept, out."""

import contextlib
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mien.data.dataset import Dataset, untracked
from mien.emotions import SIZE, Images, Probabilities, Track
from mien.errors import MienError, RunError, extra
from mien.evaluation.calibration import OPERATING_POINTS, Calibration, fit_threshold
from mien.evaluation.evaluate import calibrate
from mien.files import hash_of, replacing, write_json
from mien.inference.classifier import FORMAT, Classifier, load, open_session
from mien.models.costs import describe_costs
from mien.training.judged import split_of
from mien.training.runs import Run
from mien.training.trained import TrainedNetwork, load_trained
from mien.training.trainer import check_data

OPSET = 17  # the newest that tf2onnx and every ONNX Runtime from 1.12 know
TOLERANCE = 1e-5  # by which a probability of the fp32 file may differ from Keras'
MOST_LOSS = 0.01  # of the validation images: how many fewer fp16 and int8 may get right, beyond chance
TRUSTED = 0.8  # share of the validation images that is right among those a model is sure of
ALONE = 8  # validation images that are compared one by one too
SAMPLE = 512  # training images, at random, that set the ranges of int8
STRUCTURED = ("classes", "calibration", "thresholds", "recipe", "hashes", "costs")  # of the metadata: written as JSON
GEOMETRY = f"{SIZE}x{SIZE}x1"  # grey, 0..255, framed as FER2013's images are

Model = Any  # onnx.ModelProto


@dataclass(frozen=True)
class Export:
    """One file and how it compares with the network in Keras, on the validation images.

    difference: the largest of any probability. agreement: share of images given the same class. accuracy: before
    calibration, and accuracy_change its difference from Keras'. refused: why the file was not kept; None where it was.
    """

    precision: str
    path: Path
    bytes: int
    sha256: str
    difference: float
    agreement: float
    accuracy: float
    accuracy_change: float
    images: int
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "path": str(self.path)}


def export_run(
    path: Path,
    *,
    out: Path | None = None,
    name: str | None = None,
    licence: str = "not stated",
    data: str | None = None,
    track: Track = untracked,
) -> tuple[Export, ...]:
    """Write the finished run at `path` as NAME.onnx, NAME-fp16.onnx and NAME-int8.onnx, each with its card NAME….json.

    out: the folder, export/ in the run's where none is given. name: the recipe's where none is given. data: the images
    the run was trained on, where they moved. Uses the run's calibration.json, or fits a calibration. Raises RunError
    where the run is not finished, or the images are not the ones it was trained on.
    """
    run = Run.open(path)
    trained = load_trained(run)
    splits = split_of(run, data=data, track=track)
    check_data(splits, run)
    calibration = read_calibration(run, trained.classes) or calibrate(trained, splits)
    keras_says = trained.predict(splits.validation.images)
    thresholds = find_thresholds(splits.validation, keras_says, calibration)
    metadata = describe(run, trained, calibration, thresholds, licence)
    target = (out or path / "export") / f"{name or run.recipe.name}.onnx"
    exports = []
    with tempfile.TemporaryDirectory() as folder, quiet():
        for precision, model in write_variants(trained.network, splits.train, Path(folder)):
            suffix = "" if precision == "fp32" else f"-{precision}"
            final = target.with_stem(f"{target.stem}{suffix}")
            draft = write_model(model, {**metadata, "precision": precision}, Path(folder) / final.name)
            found = compare(draft, trained, keras_says, splits.validation, precision=precision, final=final)
            if found.refused is None:
                keep(draft, found, metadata)
            exports.append(found)
    return tuple(exports)


def milliseconds_per_face(network: keras.Model, *, rounds: int = 30) -> float:
    """Median time of one face at a time through `network` as ONNX, on one core."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        content = to_onnx(network, Path(folder)).SerializeToString()
    session = open_session(Path(f"{network.name}.onnx"), content, threads=1, providers=None)
    face, times = np.zeros((1, SIZE, SIZE, 1), np.uint8), []
    for _ in range(rounds):
        began = time.perf_counter()
        session.run(None, {"image": face})
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def read_calibration(run: Run, classes: tuple[str, ...]) -> Calibration | None:
    """What `mien calibrate` wrote into the run's folder; None where it did not."""
    if not (run.path / "calibration.json").exists():
        return None
    fields = run.read_json("calibration.json")
    if tuple(fields.get("classes", ())) != classes:
        raise RunError(f"{run.path}/calibration.json is for classes {fields.get('classes')}; expected {list(classes)}")
    return Calibration.from_dict(fields)


def find_thresholds(validation: Dataset, probabilities: Probabilities, calibration: Calibration) -> dict[str, float]:
    """At each operating point, the confidence below which a face is to be called uncertain."""
    mended = {point: calibration.apply(probabilities, operating_point=point) for point in OPERATING_POINTS}
    return {point: fit_threshold(validation.labels, said, accuracy=TRUSTED) for point, said in mended.items()}


def describe(
    run: Run, trained: TrainedNetwork, calibration: Calibration, thresholds: Mapping[str, float], licence: str
) -> dict[str, str]:
    """What the file says of itself, as text."""
    hashes = {part: run.split[part]["sha256"] for part in ("train", "validation", "test")}
    if run.recipe.targets == "teacher_views":
        hashes |= {"teachers": run.split["teachers"]["models"]}
    return {
        "format": FORMAT,
        "classes": json.dumps(trained.classes),
        "calibration": json.dumps(calibration.to_dict()),
        "thresholds": json.dumps({point: round(threshold, 4) for point, threshold in thresholds.items()}),
        "geometry": GEOMETRY,
        "recipe": json.dumps(run.recipe.to_dict()),
        "hashes": json.dumps({"model.keras": hash_of(run.model_path), **hashes}),
        "costs": json.dumps(describe_costs(trained.network)),
        "licence": licence,
        "mien": version("mien"),
    }


def write_variants(network: keras.Model, training: Dataset, folder: Path) -> Iterator[tuple[str, Model]]:
    """The network as ONNX: in float32, with its weights kept in half precision, and computing in 8 bits."""
    model = to_onnx(network, folder)
    yield "fp32", model
    yield "fp16", halve_weights(model)
    yield "int8", quantize(model, sample(training), folder)


def to_onnx(network: keras.Model, folder: Path) -> Model:
    """The network with bytes for input, so that nobody who calls it has a range of pixels to get wrong."""
    with extra("export"):
        import onnx
        import sympy  # noqa: F401 (ONNX Runtime's quantization needs it, and would say so late)
        import tf2onnx  # noqa: F401 (Keras needs it)
    if keras.backend.backend() != "tensorflow":
        raise RunError(f"Keras computes with {keras.backend.backend()}; expected tensorflow: set KERAS_BACKEND to it")
    embed_constants(network)
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8", name="image")
    # Keras' Random* layers would run, and batch normalisation learn, without training=False.
    reader = keras.Model(image, network(keras.ops.cast(image, "float32"), training=False))
    reader(np.zeros((1, SIZE, SIZE, 1), np.uint8), training=False)  # Keras exports only what was called once
    reader.export(folder / "keras.onnx", format="onnx", verbose=False, opset_version=OPSET)
    model = onnx.load(folder / "keras.onnx")
    name_ports(model)
    return model


def embed_constants(network: keras.Model) -> None:
    """Hold the constants of Normalization layers as arrays: TensorFlow's would become further inputs of the file."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            embed_constants(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def name_ports(model: Model) -> None:
    """Call the output "probabilities", and the free size of both ports "n": tf2onnx makes up names."""
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["probabilities" if name == output.name else name for name in node.output]
    output.name = "probabilities"
    for port in (*model.graph.input, output):
        port.type.tensor_type.shape.dim[0].dim_param = "n"


def halve_weights(model: Model) -> Model:
    """The same network with float16 weights, cast to float32 when it is loaded: half the file, and as fast."""
    import onnx

    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for weight in halved.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16)))
            weight.name = f"{name}_half"
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def sample(training: Dataset) -> Images:
    rows = np.random.default_rng(0).permutation(len(training))[:SAMPLE]
    return training.images[np.sort(rows)]


def quantize(model: Model, images: Images, folder: Path) -> Model:
    """The network with 8-bit weights and activations, whose ranges those images set; its last layer stays in float32."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared, quantized = (folder / f"{name}.onnx" for name in ("source", "prepared", "quantized"))
    onnx.save(model, source)
    quant_pre_process(source, prepared)
    quantization.quantize_static(
        prepared,
        quantized,
        Batches(images),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        # Weights of 7 bits: with 8, sums of products overflow on processors without VNNI, and a fifth of the labels change.
        reduce_range=True,
        nodes_to_exclude=head_of(onnx.load(prepared)),
    )
    return onnx.load(quantized)


def head_of(model: Model) -> list[str]:
    """The nodes from the last layer with weights on: in 8 bits probabilities would be coarse."""
    operations = [node.op_type for node in model.graph.node]
    last = max(row for row, operation in enumerate(operations) if operation in ("Gemm", "MatMul", "Conv"))
    return [node.name for node in model.graph.node[last:]]


class Batches:
    """Images as ONNX Runtime's quantization asks for them: a batch a call, then None."""

    def __init__(self, images: Images) -> None:
        self.batches = iter(np.array_split(images, max(1, len(images) // 64)))

    def get_next(self) -> dict[str, Images] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


def write_model(model: Model, metadata: Mapping[str, str], path: Path) -> Path:
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def compare(
    draft: Path,
    trained: TrainedNetwork,
    keras_says: Probabilities,
    validation: Dataset,
    *,
    precision: str,
    final: Path,
) -> Export:
    """Load a file as `mien predict` will, and set what it says of the validation images beside what Keras says.

    All of them at once, in batches, and the first few one by one.
    """
    try:
        classifier = load(draft)
    except MienError as error:
        raise RunError(f"{trained.network.name} cannot be exported: {error}") from error
    few = validation.images[:ALONE]
    found = run_in_batches(classifier, validation.images, size=256)
    differences = (found - keras_says, run_in_batches(classifier, few, size=1) - predict_alone(trained, few))
    difference = max(float(np.abs(rows).max()) for rows in differences)
    right, expected = (rows.argmax(axis=1) == validation.labels for rows in (found, keras_says))
    change = right.astype(float) - expected
    return Export(
        precision=precision,
        path=final,
        bytes=draft.stat().st_size,
        sha256=hash_of(draft),
        difference=difference,
        agreement=float(np.mean(found.argmax(axis=1) == keras_says.argmax(axis=1))),
        accuracy=float(right.mean()),
        accuracy_change=float(change.mean()),
        images=len(validation),
        refused=refusal(precision, difference, -float(change.mean()), error=float(change.std()) / len(change) ** 0.5),
    )


def predict_alone(trained: TrainedNetwork, images: Images) -> Probabilities:
    """What Keras says of images given one by one."""
    return np.concatenate([trained.predict(images[row : row + 1]) for row in range(len(images))])


def run_in_batches(classifier: Classifier, images: Images, *, size: int) -> Probabilities:
    batches = [classifier.run(images[start : start + size]) for start in range(0, len(images), size)]
    return np.concatenate(batches)


def refusal(precision: str, difference: float, loss: float, *, error: float) -> str | None:
    """Why a file is not to be kept; None where it is. error: the standard error of `loss`, which few images make large."""
    if precision == "fp32":
        too_far = not difference <= TOLERANCE
        return f"probabilities differ by {difference:.1e}; expected at most {TOLERANCE:.0e}" if too_far else None
    too_bad = not loss <= MOST_LOSS + 2 * error
    return f"it gets {loss:.1%} fewer images right; expected at most {MOST_LOSS:.0%}" if too_bad else None


def keep(draft: Path, found: Export, metadata: Mapping[str, str]) -> None:
    """Put a file and its card in place; in between there is a file without a card, never one with another's."""
    card = found.path.with_suffix(".json")
    card.unlink(missing_ok=True)
    with replacing(found.path) as path:
        path.write_bytes(draft.read_bytes())
    facts = {"name": found.path.stem, **found.to_dict(), "path": found.path.name}
    del facts["refused"]
    said = {key: json.loads(text) if key in STRUCTURED else text for key, text in metadata.items()}
    write_json(card, {**facts, **said})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what TensorFlow, tf2onnx and ONNX Runtime's quantization think of each step off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
