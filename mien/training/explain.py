"""A network and faces in, maps of what it looks at out: Grad-CAM, occlusion, and pictures of both for a report."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mien.data.dataset import Dataset
from mien.emotions import SIZE, Image48, Images, Indices, Labels, Probabilities
from mien.errors import RecipeError, RunError
from mien.evaluation.report import find_mistakes
from mien.training.trained import TrainedNetwork

BATCH = 64  # faces whose slopes are taken at once
PREDICTED = 4096  # pictures predicted at once
READ = 100  # faces of an emotion whose maps are averaged
SIDE = 3 * SIZE  # pixels on a side of a picture: a map over a face of 48 pixels is hard to read
STRONGEST = 0.7  # opacity where a map is 1: the face still shows through

# Nine evenly spaced colours of the perceptually uniform "inferno" (van der Walt & Smith 2015, CC0).
RED = (0, 33, 87, 138, 188, 228, 249, 249, 252)
GREEN = (0, 12, 16, 34, 55, 90, 142, 203, 255)
BLUE = (4, 74, 110, 106, 84, 49, 9, 53, 164)

Predict = Callable[[Images], Probabilities]
Heat = Float32[np.ndarray, "48 48"]
Heats = Float32[np.ndarray, "n 48 48"]
Magnified = Float32[np.ndarray, "144 144 1"]
Picture = UInt8[np.ndarray, "height 144 3"]

# What these make of a feature map is the same map, coarser or with holes.
THINNING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, keras.layers.Dropout)


def explanations(
    classifier: TrainedNetwork, dataset: Dataset, probabilities: Probabilities, *, mistakes: int = 8
) -> dict[str, Picture]:
    """Pictures by caption: what each emotion is read from, then the most confident `mistakes`.

    probabilities (n, classes): what `classifier` predicts for `dataset`. An emotion that is never read right has none.
    """
    return {
        **explain_emotions(classifier, dataset, probabilities),
        **explain_mistakes(classifier, dataset, probabilities, number=mistakes),
    }


def explain_emotions(classifier: TrainedNetwork, dataset: Dataset, probabilities: Probabilities) -> dict[str, Picture]:
    """The mean face of each emotion under the mean Grad-CAM, over its first READ faces that are read right."""
    pictures = {}
    right = probabilities.argmax(axis=1) == dataset.labels
    for label, emotion in enumerate(dataset.classes):
        rows = np.flatnonzero(right & (dataset.labels == label))[:READ]
        if len(rows):
            heats = grad_cam(classifier.network, dataset.images[rows], targets=dataset.labels[rows])
            face = dataset.images[rows].mean(axis=0).round().astype(np.uint8)
            caption = f"{emotion}: where the network looks, mean of {len(rows)} faces"
            pictures[caption] = overlay(face, stretch(heats.mean(axis=0)))
    return pictures


def explain_mistakes(
    classifier: TrainedNetwork, dataset: Dataset, probabilities: Probabilities, *, number: int
) -> dict[str, Picture]:
    """Each mistaken face above its Grad-CAM and its occlusion map, both for the emotion predicted."""
    worst = find_mistakes(dataset, probabilities)[:number]
    rows: Indices = np.array([mistake.index for mistake in worst], dtype=np.int64)
    images, targets = dataset.images[rows], probabilities[rows].argmax(axis=1)
    looked = grad_cam(classifier.network, images, targets=targets)
    missed = occlusion_maps(classifier.predict, images, targets=targets)
    nothing = np.zeros((SIZE, SIZE), np.float32)
    return {
        f"mistake {place}, {mistake.labelled} read as {mistake.predicted} ({sure(mistake.confidence)}): "
        "the face, where the network looks, what it misses when hidden": np.concatenate(
            [overlay(image, heat) for heat in (nothing, looked[place - 1], stretch(missed[place - 1]))]
        )
        for place, (mistake, image) in enumerate(zip(worst, images, strict=True), start=1)
    }


def sure(confidence: float) -> str:
    return f"{confidence:.0%}" if confidence < 0.995 else ">99%"


def grad_cam(network: keras.Model, images: Images, *, targets: Labels) -> Heats:
    """Where each image speaks for the class `targets` names: 0 nowhere, 1 most (Grad-CAM, Selvaraju et al. 2017).

    A class's score is taken before softmax, the feature map before the last pooling. A map of zeros means that nothing
    speaks for the class. Raises RunError where the network has no feature map, or its backend no slopes.
    """
    features, scores = find_feature_map(network), find_scores(network)
    stem, head = keras.Model(network.input, features), keras.Model(features, scores.input)
    directions = keras.ops.convert_to_numpy(scores.kernel).T[targets]
    heats = np.zeros((len(images), SIZE, SIZE), np.float32)
    for start in range(0, len(images), BATCH):
        rows = slice(start, start + BATCH)
        maps = stem(images[rows], training=False)
        slopes = slope(head, directions[rows], maps)
        weights = keras.ops.mean(slopes, axis=(1, 2), keepdims=True)
        heats[rows] = enlarge(keras.ops.relu(keras.ops.sum(weights * maps, axis=-1, keepdims=True)))
    return stretch(heats)


def find_feature_map(network: keras.Model) -> Any:
    """The last (height, width, channels) inside `network`, before any pooling or dropout that follows it.

    It is known as the input of the layer after it: a nested network's own output belongs to another graph.
    """
    features = None
    for layer in reversed(network.layers):
        if features is not None and not isinstance(layer, THINNING):
            break
        if len(getattr(layer.input, "shape", ())) == 4:
            features = layer.input
    if features is None or features.shape[-1] == network.input_shape[-1]:
        raise RunError(f"the network {network.name!r} has no feature map; expected convolutions: use occlusion maps")
    return features


def find_scores(network: keras.Model) -> Any:
    """The dense layer that scores the classes."""
    for layer in reversed(network.layers):
        if isinstance(layer, keras.layers.Dense) and layer.units == network.output_shape[-1]:
            return layer
    raise RunError(f"the network {network.name!r} has no dense layer of {network.output_shape[-1]} classes at its end")


def slope(head: keras.Model, directions: Any, maps: Any) -> Any:
    """How each image's score rises with its feature map; a score is what `head` makes of it, along a direction.

    The one place that names backends: Keras leaves derivatives to them.
    """

    def score(maps: Any) -> Any:
        return keras.ops.sum(head(maps, training=False) * directions)

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = score(maps)
        return tape.gradient(total, maps)
    if backend == "jax":
        import jax  # type: ignore[import-not-found, unused-ignore]

        return jax.grad(score)(maps)
    raise RunError(f"Grad-CAM has no slopes from the backend {backend}; expected tensorflow or jax: set KERAS_BACKEND")


def enlarge(maps: Any) -> Heats:
    """Maps (n, height, width, 1) at the size of a face."""
    heats: Heats = keras.ops.convert_to_numpy(keras.ops.image.resize(maps, (SIZE, SIZE), interpolation="bicubic"))
    return heats[..., 0]


def stretch(heat: Float32[np.ndarray, "*n 48 48"]) -> Float32[np.ndarray, "*n 48 48"]:
    """Each map's positive part, its largest value made 1."""
    positive = np.maximum(heat, 0)
    largest = positive.max(axis=(-2, -1), keepdims=True)
    stretched: Float32[np.ndarray, "*n 48 48"] = positive / np.where(largest > 0, largest, 1)
    return stretched


def occlusion_maps(predict: Predict, images: Images, *, targets: Labels, size: int = 12, stride: int = 6) -> Heats:
    """How much probability of its class an image loses when a square hides the place (Zeiler & Fergus 2014).

    -1..1, above 0 where the place speaks for the class: the mean over the squares that cover it. A square of `size`
    pixels has the image's mean grey; one lies every `stride` pixels. Asks nothing but predictions.
    """
    if not 1 <= stride <= size <= SIZE:
        raise RecipeError(f"size is {size} and stride {stride}; expected 1 <= stride <= size <= {SIZE}")
    squares = lay_squares(size, stride)
    heats = np.zeros((len(images), SIZE, SIZE), np.float32)
    step = max(1, PREDICTED // len(squares))
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        heats[rows] = losses(predict, images[rows], targets[rows], squares)
    return heats


def lay_squares(size: int, stride: int) -> np.ndarray:
    """Which pixels each square hides: bool (squares, 48, 48). The last of a row ends at the border."""
    starts = np.unique([*range(0, SIZE - size, stride), SIZE - size])
    pixels = np.arange(SIZE)
    within = (pixels >= starts[:, None]) & (pixels < starts[:, None] + size)
    return (within[:, None, :, None] & within[None, :, None, :]).reshape(-1, SIZE, SIZE)


def losses(predict: Predict, images: Images, targets: Labels, squares: np.ndarray) -> Heats:
    """`occlusion_maps` of few images: every image under every square is predicted at once."""
    greys = images.mean(axis=(1, 2, 3)).round().astype(np.uint8)
    hidden = np.where(squares[:, None, :, :, None], greys[:, None, None, None], images)
    chances = predict(hidden.reshape(-1, SIZE, SIZE, 1)).reshape(len(squares), len(images), -1)
    each = np.arange(len(images))
    lost = predict(images)[each, targets] - chances[:, each, targets]
    heats: Heats = np.einsum("sn,syx->nyx", lost, squares / squares.sum(axis=0)).astype(np.float32)
    return heats


def overlay(image: Image48, heat: Heat) -> Picture:
    """A face under a map, 0..1, at three times its size: bare where the map is 0, yellow and hidden most where it is 1."""
    grey, strength = magnify(image[..., 0].astype(np.float32), 255), magnify(heat, 1)
    places = np.linspace(0, 1, len(RED))
    colour = np.concatenate([np.interp(strength, places, tone) for tone in (RED, GREEN, BLUE)], axis=-1)
    opacity = STRONGEST * strength
    picture: Picture = (grey + opacity * (colour - grey)).round().astype(np.uint8)
    return picture


def magnify(values: Heat, largest: int) -> Magnified:
    """`values` at SIDE × SIDE, 0..largest: cubic interpolation may overshoot."""
    enlarged = Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    magnified: Magnified = np.asarray(enlarged).clip(0, largest)[..., np.newaxis]
    return magnified
