"""A picture in; the faces found in it, as boxes framed like FER2013's images, and 48×48 cuts of them, out."""

import math
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float64

from mien.emotions import SIZE, Image48
from mien.errors import DataError, MissingExtraError, RecipeError
from mien.files import hash_of
from mien.inference.media import Grey, Picture, reason

Affine = Float64[np.ndarray, "2 3"]  # maps (x, y, 1) of one picture to (x, y) of another
Made = TypeVar("Made")

YUNET = "MIEN_YUNET"  # names YuNet's model file, which no wheel brings
WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Box:
    """Where a face is, framed as FER2013 frames one: `crop` cuts out just this.

    x, y: the upper left corner, pixels; it may lie outside the picture. score: how sure the detector is, 0..1.
    tilt: how far the face leans to its right, degrees; the cut is turned about its centre to set it upright.
    """

    x: int
    y: int
    width: int
    height: int
    score: float = 1.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise DataError(f"a box is {self.width}×{self.height} pixels; expected at least 1×1")


class Framing(NamedTuple):
    """FER2013's frame in relation to a cascade's box, in sides of that box."""

    side: float
    right: float
    down: float


# FER2013 was cut out with OpenCV's frontal cascade (Goodfellow et al. 2013, Challenges in Representation Learning).
# Its frame is recovered from 2,000 training images set in larger canvases: benchmarks/results/framing.csv.
FRONTAL = Framing(side=1.02, right=0.0, down=0.0)
# The profile cascade's box takes in the back of the head, which those canvases lack: this comes from faces in photos
# that both cascades found, the rows "photos" of the same file. Mirrored for faces that look right.
PROFILE = Framing(side=0.84, right=-0.14, down=0.02)
# Where FER2013's images have the eyes, in sides of the image: rows "eyes" of the same file.
EYE_DISTANCE, EYE_HEIGHT = 0.385, 0.385
# Eyes to mouth, in distances between the eyes, in the upright template of ArcFace (Deng et al. 2019).
MOUTH_DISTANCE = 1.155


@runtime_checkable
class Detector(Protocol):
    """Whatever finds faces. Safe to use from several threads."""

    def find(self, image: Picture) -> tuple[Box, ...]:
        """The faces in a picture, from left to right."""
        ...

    def for_video(self) -> "Detector":
        """The same, set to spend less time on each of many frames."""
        ...


@dataclass(frozen=True)
class WholePicture:
    """For pictures that are faces already: the largest square in their middle, as it is."""

    def find(self, image: Picture) -> tuple[Box, ...]:
        height, width = image.shape[:2]
        side = min(height, width)
        return (Box((width - side) // 2, (height - side) // 2, side, side),)

    def for_video(self) -> "WholePicture":
        return self


class Candidate(NamedTuple):
    """A face a cascade may have found: its box's centre and side in pixels, and how far it passed the last stage."""

    x: float
    y: float
    side: float
    weight: float


SMALLEST = 24  # pixels: the side the frontal cascade was trained at
WINDOW = 36  # pixels: pictures are scaled until the smallest face sought has this side
FACES_ALONG = 20  # where no smallest face is given, it is the picture's longer side over this
NEIGHBOURS = 4  # places and sizes at which a cascade must find the same face
TILTS = (-25.0, 25.0)  # degrees: the frontal cascades find faces that lean up to about 12
# All the thresholds are in the cascades' own units, the sum of the last stage. They were set on 29 pictures with 23 faces
# (six photos of three to five people, a portrait, 22 without people), each as it is, mirrored, and at 70 and 40 % size:
# 95 % of the faces are found (131 of 138), and one box a set of 29 is false; the frontal cascade by itself finds 76 %,
# and 14 false. A linear face / not-face score on gradients told the false ones apart no better.
ALT2_BASE = 54.0  # what a window scores that just passes the second cascade
ENOUGH, ENOUGH_TILTED = 3.5, 5.5  # for both frontal cascades together; more is asked where two more turns were tried
ENOUGH_PROFILE = 2.5


@dataclass(frozen=True)
class HaarDetector:
    """OpenCV's Haar cascades (Viola and Jones 2001), made to agree.

    A face counts where two frontal cascades, trained apart, find it, upright or leaning, or where the profile cascade
    is sure by itself. smallest: side of the smallest face to look for, pixels, from 24; a 20th of the picture's longer
    side where none is given. tilted, profiles: look for faces that lean by 10 to 35 degrees, or are seen from the side.
    """

    smallest: int | None = None
    tilted: bool = True
    profiles: bool = True

    def __post_init__(self) -> None:
        check_opencv()
        check_smallest(self.smallest)

    def find(self, image: Picture) -> tuple[Box, ...]:
        scale = WINDOW / (self.smallest or max(SMALLEST, max(image.shape[:2]) / FACES_ALONG))
        grey = scaled(to_grey(image), scale)
        found = list(find_frontal(grey))
        if self.tilted:
            found += [box for tilt in TILTS for box in find_tilted(grey, tilt)]
        if self.profiles:
            found += find_profiles(grey)
        return suppress([enlarged(box, 1 / scale) for box in found])

    def for_video(self) -> "HaarDetector":
        return replace(self, tilted=False, profiles=False)


def find_frontal(grey: Grey) -> Iterator[Box]:
    """Upright faces that both frontal cascades see."""
    for candidate in detect("frontalface_default", grey, smallest=WINDOW, step=1.12):
        surplus = candidate.weight + confirm(grey, candidate) - ENOUGH
        if surplus >= 0:
            yield frame(candidate, FRONTAL, surplus)


def find_tilted(grey: Grey, tilt: float) -> Iterator[Box]:
    """Faces that lean by about `tilt` and that both frontal cascades see; small ones are left out, to save time."""
    turned, back = turn(grey, tilt)
    for candidate in detect("frontalface_default", turned, smallest=round(1.3 * WINDOW), step=1.12):
        surplus = candidate.weight + confirm(turned, candidate) - ENOUGH_TILTED
        if surplus >= 0:
            x, y = (back @ (candidate.x, candidate.y, 1.0)).tolist()
            yield replace(frame(candidate._replace(x=x, y=y), FRONTAL, surplus), tilt=tilt)


def find_profiles(grey: Grey) -> Iterator[Box]:
    """Faces seen from the side; the cascade knows one side, so it looks at a mirrored picture too."""
    for picture, direction in ((grey, 1), (np.ascontiguousarray(grey[:, ::-1]), -1)):
        for candidate in detect("profileface", picture, smallest=2 * WINDOW, step=1.2):
            if candidate.weight >= ENOUGH_PROFILE:
                x = candidate.x if direction == 1 else grey.shape[1] - candidate.x
                framing = PROFILE._replace(right=direction * PROFILE.right)
                yield frame(candidate._replace(x=x), framing, candidate.weight - ENOUGH_PROFILE)


def confirm(grey: Grey, candidate: Candidate) -> float:
    """How surely the second frontal cascade sees the same face, 0 being just; minus infinity where it does not."""
    side, left, top = candidate.side, *(max(0, round(at - candidate.side)) for at in (candidate.x, candidate.y))
    around = grey[top : round(candidate.y + side), left : round(candidate.x + side)]
    again = detect("frontalface_alt2", around, smallest=round(0.75 * side), largest=round(1.35 * side), step=1.06)
    same = (face for face in again if near(face, candidate.x - left, candidate.y - top, within=side / 4))
    return max((face.weight - ALT2_BASE for face in same), default=-math.inf)


def near(face: Candidate, x: float, y: float, *, within: float) -> bool:
    return math.hypot(face.x - x, face.y - y) < within


def detect(name: str, grey: Grey, *, smallest: int, step: float, largest: int = 0) -> tuple[Candidate, ...]:
    """What one cascade finds at sides from `smallest` to `largest` pixels (0: no limit), each `step` times the last."""
    boxes, _, weights = cascade(name).detectMultiScale3(
        np.ascontiguousarray(grey),
        scaleFactor=step,
        minNeighbors=NEIGHBOURS,
        minSize=(smallest, smallest),
        maxSize=(largest, largest),
        outputRejectLevels=True,
    )
    found = zip(np.reshape(boxes, (-1, 4)).tolist(), np.ravel(weights).tolist(), strict=True)
    return tuple(Candidate(x + side / 2, y + side / 2, side, weight) for (x, y, side, _), weight in found)


def frame(candidate: Candidate, framing: Framing, surplus: float) -> Box:
    """FER2013's frame around what a cascade found; `surplus` is over the threshold and becomes a score of 0.5 to 1."""
    side = candidate.side * framing.side
    x = candidate.x + candidate.side * framing.right - side / 2
    y = candidate.y + candidate.side * framing.down - side / 2
    return Box(round(x), round(y), round(side), round(side), 1 / (1 + math.exp(-surplus)))


def turn(grey: Grey, tilt: float) -> tuple[Grey, Affine]:
    """The picture turned so that a face leaning by `tilt` degrees stands upright, whole, and the way back."""
    import cv2

    height, width = grey.shape
    there = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0)
    cos, sin = np.abs(there[0, :2])
    size = (int(width * cos + height * sin), int(width * sin + height * cos))
    there[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    turned = cv2.warpAffine(grey, there, size, borderValue=float(grey.mean()))
    return turned, cv2.invertAffineTransform(there)


def enlarged(box: Box, factor: float) -> Box:
    """A box of a scaled picture, in the picture itself."""
    x, y, width, height = (round(length * factor) for length in (box.x, box.y, box.width, box.height))
    return replace(box, x=x, y=y, width=width, height=height)


def suppress(boxes: list[Box]) -> tuple[Box, ...]:
    """The boxes, surest first, without those that share 40 % of the smaller one's area with a surer one; left to right.

    The smaller one's area, not the union's: cascades like to find a large face around a small one.
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(shared(box, other) <= 0.4 * min(area(box), area(other)) for other in kept):
            kept.append(box)
    return tuple(sorted(kept, key=lambda box: (box.x, box.y)))


def area(box: Box) -> int:
    return box.width * box.height


def shared(one: Box, other: Box) -> int:
    """Pixels that two boxes have in common, tilts left aside."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(0, width) * max(0, height)


@dataclass(frozen=True)
class YuNet:
    """OpenCV's face network YuNet (Wu et al. 2023), from its model file, which is to be had apart.

    smallest: as in HaarDetector. sha256: of the file. Frames are set by the eyes and the mouth.
    """

    path: Path
    smallest: int | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        import cv2

        check_smallest(self.smallest)
        try:
            object.__setattr__(self, "sha256", hash_of(self.path))
            self.network().detect(np.zeros((320, 320, 3), np.uint8))
        except (OSError, cv2.error, AttributeError) as error:
            raise DataError(f"{self.path} cannot be used as YuNet ({reason(error)}); expected {YUNET_FILE}") from error

    def find(self, image: Picture) -> tuple[Box, ...]:
        import cv2

        scale = min(1.0, YUNET_WINDOW / (self.smallest or max(1, max(image.shape[:2]) / YUNET_ALONG)))
        picture = scaled(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), scale)
        network = self.network()
        network.setInputSize(picture.shape[1::-1])
        _, rows = network.detect(picture)
        boxes = [frame_landmarks(row) for row in ([] if rows is None else rows.tolist())]
        return suppress([enlarged(box, 1 / scale) for box in boxes])

    def for_video(self) -> "YuNet":
        return self

    def network(self) -> Any:
        import cv2

        return owned(self.sha256, lambda: cv2.FaceDetectorYN.create(str(self.path), "", (320, 320), YUNET_SCORE))


YUNET_WINDOW, YUNET_ALONG = 16, 48  # as WINDOW and FACES_ALONG: it finds faces of 10 to 300 pixels
YUNET_SCORE = 0.7  # 0..1; its authors' demo uses 0.9, its WIDER FACE figures far less
YUNET_FILE = "face_detection_yunet_2023mar.onnx from the OpenCV Model Zoo, and OpenCV 4.8 or later"


def frame_landmarks(row: list[float]) -> Box:
    """FER2013's frame around one of YuNet's faces.

    row: x, y, width, height, then x, y of the right eye, the left eye, the nose, both corners of the mouth, and a score.
    """
    points = np.reshape(row[4:14], (5, 2))
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across, along = points[1] - points[0], mouth - eyes
    # Seen from the side the eyes draw together, but not eyes and mouth.
    side = max(np.hypot(*across), np.hypot(*along) / MOUTH_DISTANCE, 1.0) / EYE_DISTANCE
    lean = math.atan2(along[0], along[1])  # the face's own downward direction, from the picture's
    x, y = eyes + (0.5 - EYE_HEIGHT) * side * np.array([math.sin(lean), math.cos(lean)]) - side / 2
    return Box(round(x), round(y), round(side), round(side), min(1.0, row[14]), math.degrees(-lean))


def find_detector(name: str | None = None, *, smallest: int | None = None) -> Detector:
    """The detector of that name: "haar", "none" (the picture is a face already), "yunet" or "yunet=FILE".

    Without a name it is YuNet where MIEN_YUNET names its file, else Haar. smallest: as in HaarDetector.
    """
    file = os.environ.get(YUNET, "")
    kind, _, given = (name or ("yunet" if file else "haar")).partition("=")
    if kind == "yunet" and (given or file):
        return YuNet(Path(given or file), smallest)
    if kind == "yunet":
        raise RecipeError(f"yunet has no model file; expected --detector yunet=FILE or {YUNET}: get {YUNET_FILE}")
    if kind not in ("haar", "none") or given:
        raise RecipeError(f"detector is {name!r}; expected haar, none or yunet=FILE")
    if kind == "none" and smallest is not None:
        raise RecipeError(
            f"smallest face is {smallest} pixels, but no faces are looked for; expected a detector with it"
        )
    return HaarDetector(smallest) if kind == "haar" else WholePicture()


def check_smallest(smallest: int | None) -> None:
    if smallest is not None and smallest < SMALLEST:
        raise RecipeError(f"smallest face is {smallest} pixels; expected {SMALLEST} or more")


def crop(image: Picture, box: Box) -> Image48:
    """Cut a box out of a picture, upright, grey and scaled by area: uint8 (48, 48, 1).

    A box that is no square is widened to one. Where it leaves the picture, the picture's edge is carried on.
    """
    import cv2

    face = to_grey(cut(image, box))
    larger = face.shape[0] > SIZE
    small = cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)[..., np.newaxis]


def cut(image: Picture, box: Box) -> Picture:
    """The square around a box, set upright, in the picture's own pixels."""
    import cv2

    side = max(box.width, box.height)
    left, top = box.x + (box.width - side) // 2, box.y + (box.height - side) // 2
    if box.tilt:
        centre = (left + side / 2, top + side / 2)
        there = cv2.getRotationMatrix2D(centre, box.tilt, 1.0)
        there[:, 2] -= left, top
        upright: Picture = cv2.warpAffine(image, there, (side, side), borderMode=cv2.BORDER_REPLICATE)
        return upright
    rows = np.clip(np.arange(top, top + side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, image.shape[1] - 1)
    return image[rows[:, np.newaxis], columns]


def to_grey(image: Picture) -> Grey:
    import cv2

    grey: Grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey


def scaled(image: Any, factor: float) -> Any:
    """A picture, grey or not, scaled: down by area, up between pixels."""
    import cv2

    size = tuple(max(1, round(length * factor)) for length in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


_owned = threading.local()


def owned(key: str, make: Callable[[], Made]) -> Made:
    """What `make` gave in this thread: neither cascades nor networks of OpenCV may be used by two at once."""
    made: dict[str, Made] = _owned.__dict__
    if key not in made:
        made[key] = make()
    return made[key]


def cascade(name: str) -> Any:
    import cv2

    return owned(name, lambda: cv2.CascadeClassifier(str(cascade_folder() / f"haarcascade_{name}.xml")))


def cascade_folder() -> Path:
    """Where OpenCV keeps its cascades; OpenCV 5 has no such folder, or an empty one."""
    import cv2

    return Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))


def check_opencv() -> None:
    """Raise a MissingExtraError that names the cure unless OpenCV is here with its cascades."""
    faults = opencv_faults()
    if faults:
        raise MissingExtraError(faults[0])


def opencv_faults() -> tuple[str, ...]:
    """A line, with its cure, for each reason why OpenCV's cascades cannot be used; none where they can."""
    try:
        import cv2
    except ImportError as error:
        return (f'OpenCV cannot be imported ({reason(error)}); run: pip install "opencv-python-headless<5"',)
    if hasattr(cv2, "CascadeClassifier") and (cascade_folder() / "haarcascade_frontalface_default.xml").is_file():
        return ()
    wheels = installed_wheels()
    cure = f'pip uninstall -y {" ".join(wheels)} && pip install "opencv-python-headless<5", or use YuNet'
    if len(wheels) > 1:
        return (f"{' and '.join(wheels)} overwrite each other's cv2 and its face cascades are gone; run: {cure}",)
    return (f"OpenCV {cv2.__version__} comes without face cascades; expected 4: {cure}",)


def installed_wheels() -> tuple[str, ...]:
    """The wheels installed here that bring a cv2 each, one overwriting the other."""
    return tuple(name for name in WHEELS if list(distributions(name=name)))
