"""Results with their images in; pictures and videos with boxes, labels and bars drawn on them out."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean, median_low
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.files import replacing
from mien.inference.classifier import Face
from mien.inference.media import VIDEOS, Picture, reason, shown
from mien.inference.schema import Result, begins

# Okabe and Ito's colours (2008): apart for nearly all eyes, and each light or dark enough to be seen on skin.
COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#f0c000", "#b8b8b8", "#0072b2", "#56b4e9")
INK, PAPER = "#141414", (20, 20, 20, 170)  # text on a colour; what bars stand on, 0..255 with opacity
BARS = 3  # the likeliest classes, below a face
SMALL = 90  # pixels: faces narrower than this get their label alone
JPEG_QUALITY = 92
RATE = 30.0  # frames a second, of a video that does not say
LEAST_RATE, MOST_RATE = 20.0, 60.0  # a multiple of fewer: repeating frames costs little, and some may come faster later
WAITING = 9  # frames from whose times the rate is taken: the first may be shown longer than others
MOST_APART = 600.0  # seconds between two frames


def annotate(image: Picture, faces: Sequence[Face]) -> Picture:
    """A copy of a picture with each face boxed, named and, where there is room, its likeliest classes as bars."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas, "RGBA")
    for face in sorted(faces, key=lambda face: face.box[2]):
        draw_face(draw, canvas.size, face)
    return np.asarray(canvas)


def draw_face(draw: ImageDraw.ImageDraw, size: tuple[int, int], face: Face) -> None:
    x, y, width, height = face.box
    thick = max(2, round(width / 60))
    colour = colour_of(face.emotion, list(face.probabilities))
    draw.rounded_rectangle((x, y, x + width, y + height), radius=thick * 3, outline=colour, width=thick)
    font = ImageFont.load_default(min(40, max(13, width / 8)))
    draw_label(draw, size, face, font, colour)
    if width >= SMALL:
        draw_bars(draw, size, face, font)


def draw_label(draw: ImageDraw.ImageDraw, size: tuple[int, int], face: Face, font: Any, colour: str) -> None:
    """The emotion and its probability, on a tab above the box; inside it where there is no room above."""
    x, y, _, _ = face.box
    text = f"{face.emotion}{'?' if face.uncertain else ''} {face.confidence:.0%}"
    text = text if face.person is None else f"{face.person} · {text}"
    pad = round(font.size / 4)
    wide, high = round(draw.textlength(text, font)) + 2 * pad, round(font.size * 1.25) + pad
    left = max(0, min(x, size[0] - wide))
    top = y - high if y >= high else max(0, y)
    draw.rounded_rectangle((left, top, left + wide, top + high), radius=pad, fill=colour)
    draw.text((left + pad, top + high / 2), text, INK if light(colour) else "white", font, anchor="lm")


def draw_bars(draw: ImageDraw.ImageDraw, size: tuple[int, int], face: Face, font: Any) -> None:
    """The likeliest classes, each a bar as long as it is likely, along the lower edge of the box or below it."""
    x, y, width, height = face.box
    classes = list(face.probabilities)
    row = round(font.size * 1.2)
    top = y + height if y + height + BARS * row <= size[1] else y + height - BARS * row
    draw.rectangle((x, top, x + width, top + BARS * row), fill=PAPER)
    for place, name in enumerate(sorted(classes, key=face.probabilities.__getitem__, reverse=True)[:BARS]):
        share, line = face.probabilities[name], top + place * row
        draw.rectangle((x, line + row * 0.12, x + width * share, line + row * 0.88), fill=colour_of(name, classes))
        draw.text((x + row / 4, line + row / 2), name, "white", font, anchor="lm", stroke_width=1, stroke_fill=INK)


def colour_of(emotion: str, classes: Sequence[str]) -> str:
    """The colour of an emotion: always the same for FER2013's; classes of one's own share those that are left."""
    if emotion in EMOTIONS:
        return COLOURS[EMOTIONS.index(emotion)]
    own = [name for name in classes if name not in EMOTIONS]
    left = [colour for name, colour in zip(EMOTIONS, COLOURS, strict=True) if name not in classes] or COLOURS
    return left[own.index(emotion) % len(left)]


def light(colour: str) -> bool:
    """Whether dark text reads better on a colour than white, by its luma (ITU-R BT.601)."""
    red, green, blue = bytes.fromhex(colour[1:])
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140


@contextmanager
def open_annotations(target: Path) -> Iterator["Annotations"]:
    """Draw results into files: a folder, for a JPEG of each photo and an MP4 of each video, or one .mp4 for all frames.

    Files that are there already are left alone, with a DataError. What is broken off holds the frames up to then.
    """
    annotations = Annotations(target)
    try:
        yield annotations
    finally:
        annotations.close()


class LateError(DataError):
    """The video before the one at hand, which is drawn, could not be written."""


class Annotations:
    """Draws each result it is given; `open_annotations` makes one."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.single = target.suffix.lower() in VIDEOS
        self.written: set[Path] = set()
        self.video: Video | None = None
        self.source = ""
        if self.single:
            refuse_existing(target)
        elif target.exists() and not target.is_dir():
            raise DataError(f"{shown(str(target))} is no folder; expected one, or a new file such as out.mp4")

    def add(self, result: Result) -> None:
        """Draw one result; those without an image are passed over. Raises DataError where it cannot be written."""
        if result.image is None or result.error is not None:
            return
        late = None
        if self.video is not None and not self.single and begins(result, self.source):
            try:
                self.close()
            except DataError as error:
                late = LateError(str(error))
        self.source = result.source
        image = annotate(result.image, result.faces)
        with writing(self.target):
            self.write(image, result)
        if late:
            raise late

    def write(self, image: Picture, result: Result) -> None:
        if not self.single and result.seconds is None:
            path = self.new_path(result.source, ".jpg")
            with replacing(path) as draft:
                Image.fromarray(image).save(draft, quality=JPEG_QUALITY)
            return
        if self.video is None:
            self.video = Video(self.target if self.single else self.new_path(result.source, ".mp4"))
        self.video.add(image, result.seconds)

    def new_path(self, source: str, suffix: str) -> Path:
        """A file in the folder, named as the source; numbered where two sources share a name."""
        stem = Path(source).stem.encode(errors="replace")[:200].decode(errors="ignore")  # names have so many bytes
        path, number = self.target / f"{stem}{suffix}", 2
        while path in self.written:
            path, number = self.target / f"{stem}-{number}{suffix}", number + 1
        refuse_existing(path)
        self.written.add(path)
        return path

    def close(self) -> None:
        """End the video that is being drawn. Raises DataError where it cannot be written."""
        video, self.video = self.video, None
        if video is not None:
            with writing(self.target):
                video.close()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(str(target))} cannot be written ({reason(error)}); free space there") from error


def refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise DataError(f"{shown(str(path))} exists already; expected a new name: remove it or choose another")


class Video:
    """An MP4 being written at one rate: each frame is there as long as its times say, or for a frame where none are given.

    Frames of other sizes than the first are fitted into it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: list[tuple[Picture, float | None]] = []  # until the rate is known
        self.writer: Any = None
        self.files = ExitStack()

    def add(self, image: Picture, seconds: float | None) -> None:
        if self.writer is not None:
            self.put(image, seconds)
            return
        self.waiting.append((image, seconds))
        if len(self.waiting) == WAITING or seconds is None:
            self.open()

    def open(self) -> None:
        """Begin the file with the frames that wait."""
        import cv2

        frames, self.waiting = self.waiting, []
        self.rate = rate_of([seconds for _, seconds in frames if seconds is not None])
        height, width = frames[0][0].shape[:2]
        self.size = (width + width % 2, height + height % 2)  # most players take even sides alone
        self.draft = self.files.enter_context(replacing(self.path))
        self.writer = cv2.VideoWriter(str(self.draft), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, self.size)
        if not self.writer.isOpened():
            self.writer, self.files = None, ExitStack()  # there is no draft to put in the file's place
            raise DataError(
                f"{shown(str(self.path))} cannot be written; expected a folder with room, and a name in .mp4"
            )
        (self.last, self.seconds), self.apart, self.owed = frames[0], 1 / self.rate, 0.0
        for image, seconds in frames[1:]:
            self.put(image, seconds)

    def put(self, image: Picture, seconds: float | None) -> None:
        """Write the last frame until it is time for this one."""
        apart = 0.0 if seconds is None or self.seconds is None else seconds - self.seconds
        # Where time leaps, another source has begun, or its clock cannot be trusted: then as long as the one before.
        if 0 < apart <= MOST_APART:
            self.apart = apart
        self.write_last()
        self.last, self.seconds = image, seconds

    def write_last(self) -> None:
        import cv2

        self.owed += self.apart * self.rate
        times = round(self.owed)
        self.owed -= times
        image = self.last
        fitted = ImageOps.pad(Image.fromarray(image), self.size) if image.shape[1::-1] != self.size else image
        encoded = cv2.cvtColor(np.asarray(fitted), cv2.COLOR_RGB2BGR)
        for _ in range(times):
            self.writer.write(encoded)

    def close(self) -> None:
        if self.waiting:
            self.open()
        with self.files:
            if self.writer is not None:
                self.write_last()  # for as long as the one before it
                self.writer.release()
                check_readable(self.draft, self.path)


def rate_of(times: Sequence[float]) -> float:
    """Frames a second of a video whose first frames are at these seconds: of few digits, as MPEG-4 wants it.

    It is the mean of the intervals next to the median: some containers round each time to a millisecond.
    """
    apart = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    if not apart:
        return RATE
    usual = median_low(apart)
    rate = 1 / mean(gap for gap in apart if abs(gap - usual) <= usual / 2)
    return round(min(MOST_RATE, rate * math.ceil(LEAST_RATE / rate)), 2)


def check_readable(draft: Path, path: Path) -> None:
    """Raise a DataError unless a video was written: OpenCV does not say so when the disk is full."""
    import cv2

    video = cv2.VideoCapture(str(draft), cv2.CAP_FFMPEG)
    whole = video.grab()
    video.release()
    if not whole:
        raise DataError(f"{shown(str(path))} cannot be written, or not to its end; free space there")
