"""FER2013's training images in; how its frame lies on the boxes of OpenCV's cascades, and how well crops fit it, out.

Each image is set in a larger grey canvas, so that a cascade may place its box freely, and the framing is what best maps
those boxes back to the image. Photos, where given, place the profile cascade's boxes on the frontal one's. A model,
where given, is judged on test images in canvases with the detector in the loop, a missed face being an error; the
other rows are kept.

    python benchmarks/framing.py DATA [--photos FOLDER]      writes results/framing.csv
    python benchmarks/framing.py DATA --model base
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize

from mien.data.dataset import load_dataset
from mien.errors import DataError
from mien.inference.classifier import load
from mien.inference.faces import (
    Box,
    Candidate,
    Framing,
    HaarDetector,
    cascade_folder,
    crop,
    detect,
    find_detector,
    scaled,
    to_grey,
)
from mien.inference.media import Missing, list_sources, read_picture
from tables import read_table, write_table

UP = 4  # times the image is enlarged, by cubic interpolation: cascades start at 24 pixels and step by a few
SIDE = 48 * UP  # pixels, of an image in its canvas
PAD = SIDE // 2  # pixels of grey around it
RESULTS = Path(__file__).parent / "results" / "framing.csv"
Row = tuple[str, str, float, int]  # what was measured, its figure, its value, on how many


def main() -> None:
    arguments = parse()
    dataset = load_dataset(arguments.data)
    if arguments.model:
        known = [
            row
            for row in read_table(RESULTS)
            if not row["what"].startswith((f"{arguments.model} ", f"{arguments.model},"))
        ]
        found = measure_model(arguments.model, pick(dataset.test, arguments.faces))
    else:
        known = []
        found = measure_framing(pick(dataset.training, arguments.faces), arguments.photos)
    rows = [
        {"what": what, "figure": figure, "value": f"{value:.4f}", "faces": number}
        for what, figure, value, number in found
    ]
    write_table(RESULTS, [*known, *rows])
    print(RESULTS.read_text(encoding="utf-8"))


def measure_framing(faces, photos: Path | None) -> Iterator[Row]:
    canvases = [set_in_canvas(face) for face in faces.images]
    yield from measure_cascades(canvases)
    yield from measure_crops(faces.images, canvases)
    yield from measure_eyes(faces.images)
    if photos:
        yield from measure_photos(photos)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="FER2013, a folder or fer2013.csv")
    parser.add_argument("--faces", type=int, default=2000, help="how many images to draw, seed 0")
    parser.add_argument("--photos", type=Path, help="photos of people, to place the profile cascade's boxes")
    parser.add_argument("--model", help="judge this with the detector in the loop, and keep the other rows")
    return parser.parse_args()


def pick(dataset, number):
    rows = np.random.default_rng(0).permutation(len(dataset))[:number]
    return dataset.take(np.sort(rows))


def set_in_canvas(face):
    """An image in the middle of a canvas of its mean grey, as an RGB picture."""
    large = cv2.resize(face[..., 0], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    grey = cv2.copyMakeBorder(large, PAD, PAD, PAD, PAD, cv2.BORDER_CONSTANT, value=float(face.mean()))
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def measure_cascades(canvases) -> Iterator[Row]:
    """The framing of each cascade by itself, and the share of faces it finds."""
    for name in ("frontalface_default", "frontalface_alt2", "profileface"):
        found = [face for face in (strongest(name, to_grey(canvas)) for canvas in canvases) if face]
        boxes = np.array([((face.x - PAD) / SIDE, (face.y - PAD) / SIDE, face.side / SIDE) for face in found])
        framing, agreement = best_framing(boxes)
        yield name, "share found", len(found) / len(canvases), len(canvases)
        for figure, value in zip(Framing._fields, framing, strict=True):
            yield name, figure, value, len(found)
        yield name, "mean IoU with FER2013's frame", agreement, len(found)


def strongest(name: str, grey) -> Candidate | None:
    return max(detect(name, grey, smallest=SIDE // 2, step=1.05), key=lambda face: face.weight, default=None)


def best_framing(boxes) -> tuple[Framing, float]:
    """The framing that maps boxes (x, y, side; the image being 0..1) to the whole image with the largest mean IoU."""

    def disagreement(framing) -> float:
        return -float(overlap(boxes, Framing(*framing)).mean())

    x, y, side = boxes.T
    start = (np.median(1 / side), np.median((0.5 - x) / side), np.median((0.5 - y) / side))
    best = minimize(disagreement, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-5})
    return Framing(*best.x.tolist()), -best.fun


def overlap(boxes, framing: Framing):
    """IoU of each framed box with the image, 0..1."""
    x, y, side = boxes.T
    half = side * framing.side / 2
    edges = [
        np.stack([at + side * by - half, at + side * by + half]) for at, by in ((x, framing.right), (y, framing.down))
    ]
    common = np.prod([np.clip(np.minimum(high, 1) - np.maximum(low, 0), 0, None) for low, high in edges], axis=0)
    return common / (4 * half**2 + 1 - common)


def measure_crops(images, canvases) -> Iterator[Row]:
    """How close what the detector cuts out comes to the images it should give, by margin around the framing."""
    found = [(image, canvas, HaarDetector().find(canvas)) for image, canvas in zip(images, canvases, strict=True)]
    found = [(image, canvas, max(boxes, key=lambda box: box.score)) for image, canvas, boxes in found if boxes]
    yield "detector", "share found", len(found) / len(canvases), len(canvases)
    for margin in (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4):
        alike = [correlation(image, crop(canvas, widened(box, margin))) for image, canvas, box in found]
        yield f"detector, frame × {margin}", "mean correlation of crop and image", float(np.mean(alike)), len(found)


def widened(box: Box, factor: float) -> Box:
    side = round(box.width * factor)
    return Box(box.x - (side - box.width) // 2, box.y - (side - box.height) // 2, side, side, box.score, box.tilt)


def correlation(one, other) -> float:
    one, other = (image.astype(float).ravel() - image.mean() for image in (one, other))
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))


def measure_eyes(images) -> Iterator[Row]:
    """Where FER2013's images have the eyes, in sides of the image: for detectors that give landmarks."""
    finder = cv2.CascadeClassifier(str(cascade_folder() / "haarcascade_eye_tree_eyeglasses.xml"))
    pairs = np.array([pair for image in images if (pair := find_eyes(finder, image)) is not None])
    middles = pairs.mean(axis=1)
    distances = np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1)
    for figure, values in (
        ("distance", distances),
        ("x of the middle", middles[:, 0]),
        ("y of the middle", middles[:, 1]),
    ):
        yield "eyes", figure, float(np.median(values)), len(pairs)


def find_eyes(finder, image):
    """The eyes' places, 0..1, where just one is found in each half of the image."""
    large = cv2.resize(image[..., 0], (240, 240), interpolation=cv2.INTER_CUBIC)[:150]
    boxes = np.reshape(finder.detectMultiScale(large, 1.05, 6, minSize=(30, 30), maxSize=(100, 100)), (-1, 4))
    eyes = sorted((x + width / 2, y + height / 2) for x, y, width, height in boxes.tolist())
    apart = len(eyes) == 2 and eyes[0][0] < 120 <= eyes[1][0]
    return np.array(eyes) / 240 if apart else None


def measure_photos(folder: Path) -> Iterator[Row]:
    """Where the frontal cascade's box lies on the profile cascade's, for faces in photos that both find."""
    pairs = np.array([pair for path in list_sources([str(folder)]) for pair in pair_boxes(path)])
    for figure, values in zip(Framing._fields, pairs.T, strict=True):
        yield "photos: frontal box on the profile's", figure, float(np.median(values)), len(pairs)


def pair_boxes(path: str | Missing) -> Iterator[tuple[float, float, float]]:
    if isinstance(path, Missing):
        raise DataError(path.error)
    image = read_picture(path)
    grey = scaled(to_grey(image), min(1.0, 720 / max(image.shape[:2])))
    for picture in (grey, np.ascontiguousarray(grey[:, ::-1])):
        frontal = [face for face in detect("frontalface_default", picture, smallest=48, step=1.1) if face.weight > 3]
        for side in detect("profileface", picture, smallest=48, step=1.1):
            for face in frontal:
                right, down = (face.x - side.x) / side.side, (face.y - side.y) / side.side
                # A face seen half from the side has its front where the profile cascade expects it: to the left.
                if side.weight > 1 and abs(right) < 0.35 and abs(down) < 0.2 and right < 0:
                    yield face.side / side.side, right, down


def measure_model(name: str, faces) -> Iterator[Row]:
    """Accuracy on test images in canvases, cut out by the detector, beside that on the images themselves."""
    classifier = load(name)
    labels, images = faces.labels, faces.images
    straight = classifier.predict(images).argmax(axis=1) == labels
    yield f"{name} on the images", "accuracy", float(straight.mean()), len(labels)
    right = np.zeros(len(labels), bool)
    found = np.zeros(len(labels), bool)
    for row, image in enumerate(images):
        canvas = set_in_canvas(image)
        boxes = find_detector("haar").find(canvas)
        if boxes:
            found[row] = True
            box = max(boxes, key=lambda box: box.score)
            right[row] = classifier.predict(crop(canvas, box)[np.newaxis]).argmax() == labels[row]
    yield f"{name}, detector in the loop", "accuracy, a missed face being an error", float(right.mean()), len(labels)
    yield f"{name}, detector in the loop", "accuracy of the faces found", float(right[found].mean()), int(found.sum())
    yield f"{name} on the images", "accuracy of the same faces", float(straight[found].mean()), int(found.sum())


if __name__ == "__main__":
    main()
