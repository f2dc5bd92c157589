"""An ONNX file that `mien export` wrote in; a Classifier out: calibrated probabilities for faces, and readings of photos."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mien.emotions import SIZE, Images, Probabilities
from mien.errors import DataError, RecipeError
from mien.inference.faces import Box, Detector, crop, find_detector
from mien.inference.media import Picture, as_picture, read_picture, reason, shown

FORMAT = "mien 1"  # of the file's metadata; a change that older readers would misread raises the number
WEIGHTS = Path(__file__).parent / "weights"  # the models that come with mien: NAME.onnx, and NAME.json with its hash
CHUNK = 256  # images to a run of the network: memory stays flat, and larger chunks are no faster
FLOOR = float(np.finfo(np.float64).eps)  # as in mien.evaluation.calibration, which fits what is applied here
OPERATING_POINTS = ("accuracy", "balanced")
DIGITS = 6  # of what is written out: float32 holds no more

Pixels = UInt8[np.ndarray, "..."]  # a picture, RGB or grey


@dataclass(frozen=True)
class Face:
    """What was read in one face, in plain numbers that any JSON writer takes.

    box: x, y, width and height in pixels of the picture, upright. score: how sure the detector is that it is a face,
    0..1. probabilities: of each class, summing to one. confidence: that of `emotion`. uncertain: whether that is below
    the minimum asked for, or else the model's own. person: who it is of those followed through a video, from 1; None in
    a photo.
    """

    box: tuple[int, int, int, int]
    score: float
    emotion: str
    probabilities: dict[str, float]
    confidence: float
    uncertain: bool
    person: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the order of the keys is part of the schema."""
        return {
            "person": self.person,
            "box": list(self.box),
            "score": round(self.score, DIGITS),
            "emotion": self.emotion,
            "confidence": round(self.confidence, DIGITS),
            "uncertain": self.uncertain,
            "probabilities": {name: round(share, DIGITS) for name, share in self.probabilities.items()},
        }


@dataclass(frozen=True)
class Mending:
    """A model's calibration at one operating point: softmax(log(probabilities) / temperature + offsets)."""

    temperature: float
    offsets: tuple[float, ...]

    def apply(self, probabilities: Probabilities) -> Probabilities:
        logits = np.log(np.maximum(probabilities, FLOOR, dtype=np.float64)) / self.temperature + self.offsets
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        mended: Probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        return mended


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model that reads the expression of 48×48 faces.

    classes: in the order of the columns it gives. metadata: all that `mien export` wrote into the file, as text.
    sha256: of the file. Safe to use from several threads.
    """

    name: str
    classes: tuple[str, ...]
    minimum_confidence: float
    mending: Mending
    metadata: MappingProxyType[str, str] = field(repr=False)
    sha256: str = field(repr=False)
    session: Any = field(repr=False)  # onnxruntime.InferenceSession

    def predict(self, images: Images | UInt8[np.ndarray, "n 48 48"]) -> Probabilities:
        """Calibrated probabilities, float32 (n, classes), for uint8 faces (n, 48, 48, 1) or (n, 48, 48), 0..255."""
        images = images[..., np.newaxis] if getattr(images, "ndim", 0) == 3 else images
        check_images(images)
        chunks = [self.run(images[start : start + CHUNK]) for start in range(0, max(1, len(images)), CHUNK)]
        probabilities = np.concatenate(chunks)
        if not np.isfinite(probabilities).all():
            raise DataError(
                f"{self.name} gives probabilities that are no numbers; expected a sound model: export it again"
            )
        return self.mending.apply(probabilities)

    def run(self, images: Images) -> Probabilities:
        """What the network itself gives, before calibration. Asked about no image, ONNX Runtime would crash."""
        if not len(images):
            return np.empty((0, len(self.classes)), np.float32)
        probabilities: Probabilities = self.session.run(None, {self.session.get_inputs()[0].name: images})[0]
        return probabilities

    def read(self, image: Pixels | str | Path, *, detector: Detector | None = None) -> tuple[Face, ...]:
        """The faces of one photo, from left to right; none where there is none.

        image: a path, or a uint8 array, RGB (height, width, 3) or grey (height, width). detector: finds the faces;
        `find_detector()` where none is given. Raises DataError for a file that is no picture.
        """
        picture = read_picture(image) if isinstance(image, str | Path) else as_picture(image)
        boxes = (detector or find_detector()).find(picture)
        return self.name_faces(boxes, self.predict(crop_all(picture, boxes)))

    def name_faces(self, boxes: Sequence[Box], probabilities: Probabilities) -> tuple[Face, ...]:
        """Faces from their boxes and their rows of probabilities."""
        return tuple(self.name_face(box, row) for box, row in zip(boxes, probabilities.tolist(), strict=True))

    def name_face(self, box: Box, row: list[float]) -> Face:
        confidence = max(row)
        return Face(
            box=(box.x, box.y, box.width, box.height),
            score=box.score,
            emotion=self.classes[row.index(confidence)],
            probabilities=dict(zip(self.classes, row, strict=True)),
            confidence=confidence,
            uncertain=confidence < self.minimum_confidence,
        )


def load(
    name_or_path: str | Path = "base",
    *,
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    operating_point: str = "accuracy",
    minimum_confidence: float | None = None,
    priors: Mapping[str, float] | None = None,
) -> Classifier:
    """Load a model that comes with mien, by its name, or the ONNX file that `mien export` wrote.

    threads: how many to compute with; all cores where none are given. providers: ONNX Runtime's, the first choice
    first; the CPU where none are given. operating_point: "accuracy", or "balanced", which finds rare classes more
    often. minimum_confidence: faces below it are marked uncertain, 0..1; where it is None, the file says from where on
    it was right four times in five. priors: share of every class in the population to be read, where it differs from
    that of the training images; at the accuracy point alone, since the balanced one leaves it out of account. Raises
    DataError for a file that is not ours or not as its card says, RecipeError for an option out of range.
    """
    check_options(threads, operating_point, minimum_confidence)
    if priors is not None and operating_point != "accuracy":
        raise RecipeError(f"priors came with operating point {operating_point}; expected accuracy with them")
    path = find_model(name_or_path)
    content = read_model(path)
    sha256 = hashlib.sha256(content).hexdigest()
    check_card(path, sha256)
    session = open_session(path, content, threads=threads, providers=providers)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    classes = read_classes(path, metadata)
    check_ports(path, session, classes)
    mending = read_mending(path, metadata, classes, operating_point)
    if priors is not None:
        learned = read_json(path, metadata, "calibration")["priors"]
        mending = retarget(mending, learned, classes, priors)
    threshold = read_threshold(path, metadata, operating_point) if minimum_confidence is None else minimum_confidence
    return Classifier(path.stem, classes, threshold, mending, MappingProxyType(metadata), sha256, session)


def crop_all(picture: Picture, boxes: Sequence[Box]) -> Images:
    """Each box cut out of a picture, uint8 (boxes, 48, 48, 1)."""
    faces = [crop(picture, box) for box in boxes]
    return np.stack(faces) if faces else np.empty((0, SIZE, SIZE, 1), np.uint8)


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with mien."""
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.onnx")))


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model that comes with mien, where it has that name, else the path itself."""
    name = os.fspath(name_or_path)
    if name in shipped_models():
        return WEIGHTS / f"{name}.onnx"
    if Path(name).suffix or os.sep in name or isinstance(name_or_path, Path):
        return Path(name)
    ours = ", ".join(shipped_models()) or "none comes with this version"
    raise DataError(
        f"{shown(name)} is no model of mien's ({ours}); expected an ONNX file: `mien export RUN` writes one"
    )


def read_model(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(str(path))} cannot be read ({reason(error)}); expected an ONNX file") from error


def check_card(path: Path, sha256: str) -> None:
    """Raise a DataError unless the card beside a model names its hash; only a model that comes with mien needs one."""
    card = path.with_suffix(".json")
    if not card.exists() and path.parent != WEIGHTS:
        return
    try:
        expected = json.loads(card.read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shown(str(card))} is no model's card ({reason(error)}); expected its sha256") from error
    if expected != sha256:
        raise DataError(
            f"{shown(str(path))} has SHA-256 {sha256[:16]}…; expected {str(expected)[:16]}…, as {card.name} says: "
            "it is damaged or another model, so install or export it again"
        )


def open_session(path: Path, content: bytes, *, threads: int | None, providers: Sequence[str] | None) -> Any:
    """An ONNX Runtime session; a provider that is not there is an error, not a silent change to the CPU."""
    import onnxruntime

    wanted, there = list(providers or ["CPUExecutionProvider"]), onnxruntime.get_available_providers()
    missing = [provider for provider in wanted if provider not in there]
    if missing:
        raise RecipeError(f"provider is {missing[0]}; expected one of {', '.join(there)}: install its ONNX Runtime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # what ONNX Runtime would write is in the error
    try:
        session = onnxruntime.InferenceSession(content, options, providers=wanted)
    except Exception as error:  # ONNX Runtime's errors have no public names
        raise DataError(
            f"{shown(str(path))} is no ONNX file that runs here ({reason(error)}); expected {OURS}"
        ) from error
    if wanted[0] not in session.get_providers():  # ONNX Runtime goes on with another, and says so in a log alone
        raise RecipeError(f"{wanted[0]} cannot be used here; expected its libraries, such as CUDA's: see `mien doctor`")
    return session


OURS = "a model that `mien export` wrote"


def read_classes(path: Path, metadata: dict[str, str]) -> tuple[str, ...]:
    written = metadata.get("format", "")
    if written != FORMAT:
        cure = "upgrade mien" if written.startswith("mien ") else f"use {OURS}"
        raise DataError(f"{shown(str(path))} has format {shown(written)!r}; expected {FORMAT!r}: {cure}")
    classes = read_json(path, metadata, "classes")
    names = isinstance(classes, list) and all(isinstance(name, str) and name for name in classes)
    if not names or not len(set(classes)) == len(classes) > 1:
        raise DataError(f"{shown(str(path))} has classes {classes}; expected two or more different names: export again")
    return tuple(classes)


def read_json(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key])
    except (KeyError, ValueError) as error:
        raise DataError(f"{shown(str(path))} has no {key} in its metadata that is JSON; expected {OURS}") from error


def check_ports(path: Path, session: Any, classes: Sequence[str]) -> None:
    """Raise a DataError unless the network takes uint8 faces and gives a float32 column a class."""
    ports = [(port.type, list(port.shape[1:])) for port in (*session.get_inputs(), *session.get_outputs())]
    expected = [("tensor(uint8)", [SIZE, SIZE, 1]), ("tensor(float)", [len(classes)])]
    if ports != expected or isinstance(session.get_inputs()[0].shape[0], int):
        shapes = [(port.type, list(port.shape)) for port in (*session.get_inputs(), *session.get_outputs())]
        raise DataError(f"{shown(str(path))} has ports {shapes}; expected any number of {expected}: export it again")


def read_mending(path: Path, metadata: dict[str, str], classes: Sequence[str], operating_point: str) -> Mending:
    calibration = read_json(path, metadata, "calibration")
    try:
        mending = Mending(float(calibration["temperature"]), tuple(map(float, calibration[operating_point])))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown(str(path))} has calibration {calibration}; expected {OURS}") from error
    numbers = (mending.temperature, *mending.offsets)
    if not mending.temperature > 0 or len(mending.offsets) != len(classes) or not np.isfinite(numbers).all():
        raise DataError(
            f"{shown(str(path))} has calibration {calibration}; expected {len(classes)} numbers: export again"
        )
    return mending


def parse_priors(text: str) -> dict[str, float]:
    """Shares of classes as a person types them: happy=0.4,sad=0.1,…"""
    try:
        return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise RecipeError(f"priors is {text!r}; expected class=share of every class, such as happy=0.4,…") from error


def retarget(
    mending: Mending, learned: Sequence[float], classes: Sequence[str], priors: Mapping[str, float]
) -> Mending:
    """The calibration for a population with these shares of the classes (Saerens, Latinne, Decaestecker 2002)."""
    shares = [priors.get(name, -1.0) for name in classes]
    if set(priors) != set(classes) or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-3:
        raise RecipeError(f"priors are {dict(priors)}; expected each of {', '.join(classes)}, 0 or more, summing to 1")
    shift = np.log(np.maximum(shares, FLOOR)) - np.log(np.maximum(learned, FLOOR))
    return Mending(mending.temperature, tuple((mending.offsets + shift).tolist()))


def read_threshold(path: Path, metadata: dict[str, str], operating_point: str) -> float:
    """The confidence below which the file calls a face uncertain; 0 where it does not say."""
    thresholds = read_json(path, metadata, "thresholds") if "thresholds" in metadata else {operating_point: 0.0}
    try:
        threshold = float(thresholds[operating_point])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown(str(path))} has thresholds {thresholds}; expected {OURS}") from error
    if not 0 <= threshold <= 1:
        raise DataError(f"{shown(str(path))} has thresholds {thresholds}; expected 0..1: export again")
    return threshold


def check_options(threads: int | None, operating_point: str, minimum_confidence: float | None) -> None:
    if threads is not None and threads < 1:
        raise RecipeError(f"threads are {threads}; expected 1 or more, or none given for all cores")
    if operating_point not in OPERATING_POINTS:
        raise RecipeError(f"operating point is {operating_point!r}; expected one of {', '.join(OPERATING_POINTS)}")
    if minimum_confidence is not None and not 0 <= minimum_confidence <= 1:
        raise RecipeError(f"minimum confidence is {minimum_confidence}; expected 0..1")


def check_images(images: Any) -> None:
    shape = getattr(images, "shape", None)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 1):
        kind = getattr(images, "dtype", type(images).__name__)
        raise DataError(
            f"images are {kind} of shape {shape}; expected uint8 (n, {SIZE}, {SIZE}, 1): "
            "cut faces out of a photo with mien.inference.faces.crop(), or use read()"
        )
