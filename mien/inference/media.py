"""Files, folders, globs, videos, a webcam or standard input in; frames out: RGB pictures, the right way up, one by one."""

import glob
import io
import json
import os
import re
import stat
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from mien.errors import DataError, MienError, RecipeError

Picture = UInt8[np.ndarray, "_height _width 3"]  # RGB, 0..255, the right way up; _: sizes need not agree
Grey = UInt8[np.ndarray, "_height _width"]
Kind = Literal["photo", "video", "heic"]

PHOTOS = {
    ".avif",
    ".bmp",
    ".gif",
    ".heic",  # refused by name, not passed over
    ".heif",
    ".jfif",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
}
COUNTED = {".avi", ".m4v", ".mov", ".mp4"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"}
STARTS: dict[bytes, Kind] = {
    b"\xff\xd8\xff": "photo",  # JPEG
    b"\x89PNG\r\n": "photo",
    b"GIF8": "photo",
    b"II*\0": "photo",  # TIFF
    b"MM\0*": "photo",
    b"\0\0\0\x0cjP  ": "photo",  # JPEG 2000
    b"\0\0\1\0": "photo",  # icons
    b"\x1a\x45\xdf\xa3": "video",  # Matroska, WebM
    b"OggS": "video",
    b"\0\0\1\xba": "video",  # MPEG
    b"\0\0\1\xb3": "video",
    b"\x30\x26\xb2\x75": "video",  # Windows Media
}
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MOST_PIXELS = 178_956_970  # of a photo: the bomb limit that Pillow keeps, 512 MB of RGB
MOST_BYTES = 2**29  # of a picture on standard input
LONGEST_LINE = 2**16  # bytes, on standard input
STDIN = "-"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    source: a file, "webcam 0" or "standard input". index: from 0, counted over all frames, those left out too.
    seconds: since a video or animation began or the webcam was opened; None for a photo.
    """

    source: str
    index: int
    seconds: float | None
    image: Picture = field(repr=False)


@dataclass(frozen=True)
class Missing:
    """A source that leads nowhere, and the line that says why."""

    source: str
    error: str


def list_sources(arguments: Iterable[str], *, stdin: io.BufferedReader | None = None) -> Iterator[str | Missing]:
    """One source after the other: folders and globs become their files, and "-" the paths on standard input.

    A line there is a path or JSON: a string, or an object with "path". Where standard input begins like a picture it is
    one, and "-" stays. What leads nowhere is given as Missing, and the others go on.
    """
    for argument in arguments:
        if argument == STDIN:
            yield from list_stdin(stdin)
        elif is_folder(argument):
            yield from list_folder(argument)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            yield from list_glob(argument)
        else:
            yield argument


def open_source(
    source: str, *, every: int = 1, animated: bool = False, stdin: io.BufferedReader | None = None
) -> Iterator[Frame]:
    """The frames of one photo, video, webcam ("0", "1", …) or picture on standard input ("-").

    every: take each so-manieth frame of what moves. animated: take all frames of a GIF, WebP or PNG, not the first
    alone. Raises DataError, which names the source and the cause, where the next frame cannot be had.
    """
    check_every(every)
    if source == STDIN:
        yield from read_photo(name_of(source), read_stdin(stdin), every=every, animated=animated)
    elif is_webcam(source):
        yield from read_video(name_of(source), int(source), every=every)
    elif kind_of_file(source) == "video":
        yield from read_video(source, source, every=every)
    else:
        with opened(source) as file:
            yield from read_photo(source, file, every=every, animated=animated)


def name_of(source: str) -> str:
    """What results call a source: a file's path, "webcam 0" or "standard input"."""
    if source == STDIN:
        return "standard input"
    return f"webcam {source}" if is_webcam(source) else source


def check_every(every: int) -> None:
    if every < 1:
        raise RecipeError(f"every is {every}; expected 1 for each frame, 2 for each second one, and so on")


def list_folder(folder: str) -> Iterator[str | Missing]:
    """Photos and videos below a folder, by name; hidden ones and linked folders are left out."""
    faults: list[OSError] = []
    empty = True
    for parent, folders, files in os.walk(folder, onerror=faults.append):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=in_order)
        for name in sorted(files, key=in_order):
            if os.path.splitext(name)[1].lower() in PHOTOS | VIDEOS and not name.startswith("."):  # noqa: PTH122
                yield os.path.join(parent, name)  # noqa: PTH118 (a Path would drop the ./ that a user typed)
                empty = False
    for fault in faults:
        name = str(fault.filename)
        yield Missing(name, f"{shown(name)} cannot be listed ({fault.strerror}); expected a readable folder")
    if empty and not faults:
        yield Missing(folder, f"{shown(folder)} holds no photo or video; expected files such as .jpg, .png or .mp4")


def list_glob(pattern: str) -> Iterator[str | Missing]:
    found = sorted(glob.glob(pattern, recursive=True), key=in_order)  # noqa: PTH207 (the pattern may be absolute)
    listed = (source for path in found for source in (list_folder(path) if is_folder(path) else [path]))
    yield from dict.fromkeys(listed)  # ** matches a folder and what is in it
    if not found:
        expected = "expected a file, folder or pattern such as 'photos/*.jpg'"
        yield Missing(pattern, f"{shown(pattern)} matches nothing; {expected}")


def list_stdin(stdin: io.BufferedReader | None) -> Iterator[str | Missing]:
    """The paths on standard input, each as soon as its line is there; "-" itself where it begins like a picture."""
    try:
        stream = open_stdin(stdin)
        if sniff(stream.peek(16)):
            yield STDIN
            return
        for number in count(1):
            line = stream.readline(LONGEST_LINE)
            if not line:
                return
            yield from list_line(line, number)
    except (OSError, ValueError) as error:
        expected = "expected paths, a line each, or a picture"
        yield Missing("standard input", f"standard input cannot be read ({reason(error)}); {expected}")
    except DataError as error:
        yield Missing("standard input", str(error))


def list_line(line: bytes, number: int) -> Iterator[str | Missing]:
    text = line.decode(errors="surrogateescape").strip("\r\n")
    path = parse_line(text) if text.startswith(('"', "{")) and not os.path.lexists(text) else text
    if not path or path == STDIN or "\0" in path:
        if text.strip():
            line_shown = f"standard input, line {number}"
            yield Missing(line_shown, f"{line_shown} is {shown(text[:80])!r}; expected a path, or JSON with one")
    elif is_folder(path):
        yield from list_folder(path)
    else:
        yield path


def parse_line(text: str) -> str:
    """The path in a line of JSON; nothing where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else ""


def in_order(name: str) -> list[tuple[str, int]]:
    """A key that sorts numbers by their value: im2 before im10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name, re.ASCII)]


def open_stdin(stdin: io.BufferedReader | None) -> io.BufferedReader:
    stream = stdin or (sys.stdin and sys.stdin.buffer)
    if not isinstance(stream, io.BufferedReader) or stream.closed:
        raise DataError("standard input is closed; expected paths, a line each, or a picture")
    return stream


def read_stdin(stdin: io.BufferedReader | None) -> io.BytesIO:
    """All of standard input, which is to be a picture."""
    stream = open_stdin(stdin)
    try:
        if sniff(stream.peek(16)) == "video":
            raise DataError("standard input is a video; expected a picture or paths: give the video's path instead")
        content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"standard input cannot be read ({reason(error)}); expected a picture") from error
    if not 0 < len(content) <= MOST_BYTES:
        raise DataError(f"standard input holds {len(content):,} bytes; expected a picture of up to {MOST_BYTES:,}")
    return io.BytesIO(content)


def is_webcam(source: str) -> bool:
    """Whether a source is a webcam's number: a file of that name goes first."""
    return re.fullmatch(r"[0-9]{1,3}", source) is not None and not os.path.lexists(source)


def is_folder(path: str) -> bool:
    return "\0" not in path and os.path.isdir(path)  # noqa: PTH112 (Path("") would be the current folder)


def sniff(head: bytes) -> Kind | None:
    """What a file is by its first 12 bytes; None where they do not say."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "heic" if brand in HEIC_BRANDS else "photo" if brand in (b"avif", b"avis") else "video"
    if head[:2] == b"BM":  # a path may begin so, but not go on with the header's zeros
        return "photo" if head[6:10] == bytes(4) else None
    if re.match(rb"P[1-6]\s+[#\d]", head):
        return "photo"  # PNM
    if head[:4] == b"RIFF":
        return {b"AVI ": "video", b"WEBP": "photo"}.get(head[8:12])  # type: ignore[return-value]
    return next((kind for start, kind in STARTS.items() if head.startswith(start)), None)


def kind_of_file(source: str) -> Kind:
    """Whether a file is a photo or a video: by what it holds, and by its name where that does not say.

    Raises DataError for what is no file, and before opening it: a pipe would wait for ever.
    """
    try:
        status = os.stat(source)  # noqa: PTH116 (a Path of a strange name may differ from the name)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(source)} cannot be opened ({reason(error)}); expected a photo or video") from error
    if not stat.S_ISREG(status.st_mode):
        thing = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise DataError(f"{shown(source)} is {thing}; expected a photo or video: pipe a picture in with `-`")
    if status.st_size == 0:
        raise DataError(f"{shown(source)} is empty; expected a photo or video")
    with opened(source) as file:
        kind = sniff(file.read(12))
    return kind or ("video" if Path(source).suffix.lower() in VIDEOS else "photo")


@contextmanager
def opened(source: str) -> Iterator[io.BufferedReader]:
    """A file to read from; it may fail when it is opened, and on the way."""
    try:
        with open(source, "rb") as file:  # noqa: PTH123
            yield file
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(source)} cannot be opened ({reason(error)}); expected a photo or video") from error


def read_photo(name: str, file: io.BufferedReader | io.BytesIO, *, every: int, animated: bool) -> Iterator[Frame]:
    """The first picture in a file; or, `animated`, each one of several."""
    with decoding(name):
        if sniff(file.read(12)) == "heic":
            raise DataError(f"{shown(name)} is a HEIC picture, which Pillow cannot read; save it as JPEG or PNG")
        file.seek(0)
        photo = Image.open(file)
        pictures = getattr(photo, "n_frames", 1) if animated else 1
    seconds = 0.0
    for index in range(pictures):
        with decoding(name):
            photo.seek(index)
            photo.load()  # or Pillow would not know how long a WebP's is shown
            image = to_rgb(photo) if index % every == 0 else None
        if image is not None:
            yield Frame(name, index, seconds if pictures > 1 else None, image)
        seconds += seconds_shown(photo)


def seconds_shown(photo: Image.Image) -> float:
    """How long an animation shows its picture; 0.1 s, as browsers do, where it says nothing, 0 or something else."""
    milliseconds = photo.info.get("duration")
    return milliseconds / 1000 if isinstance(milliseconds, int | float) and milliseconds > 0 else 0.1


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises over a damaged file into a DataError, and keep its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MienError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{shown(name)} is no picture; expected a JPEG, PNG, WebP, GIF, BMP or TIFF file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{shown(name)} has too many pixels; expected at most {MOST_PIXELS:,}: shrink it") from error
    except Exception as error:  # Pillow's readers let all kinds of errors through, from struct.error to KeyError
        raise DataError(f"{shown(name)} cannot be decoded ({reason(error)}); expected a whole picture") from error


def to_rgb(photo: Image.Image) -> Picture:
    """A photo of any mode as RGB, turned the way its EXIF says, over white where it is transparent."""
    image = upright(photo)
    if image.mode[0] in "IF":
        return np.repeat(to_eight_bits(np.asarray(image), image.mode)[..., np.newaxis], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def upright(photo: Image.Image) -> Image.Image:
    photo.load()
    with suppress(Exception):  # damaged EXIF does not say which way is up, and the picture may be sound
        return ImageOps.exif_transpose(photo)
    return photo


def to_eight_bits(values: Shaped[np.ndarray, "_height _width"], mode: str) -> Grey:
    """Grey values of 16 bits, 32 bits or floating point as 0..255; white is the largest number their scale has."""
    values = np.nan_to_num(values.astype(np.float64))
    largest = float(values.max())
    white = 65535 if mode.startswith("I;16") or largest > 255 else 1 if mode == "F" and largest <= 1 else 255
    return np.rint(np.clip(values / max(white, largest), 0, 1) * 255).astype(np.uint8)


def read_video(name: str, address: str | int, *, every: int) -> Iterator[Frame]:
    """Each so-manieth frame of a video file or webcam."""
    began = time.monotonic()
    live = isinstance(address, int)
    with closing(Capture(name, address)) as capture:
        for index in count():
            if not capture.advance():
                break
            if index % every == 0:
                yield Frame(name, index, time.monotonic() - began if live else capture.seconds(index), capture.image())
        if index == 0:
            raise DataError(f"{shown(name)} gives no frame; expected {EXPECTED_VIDEO}")
        if index < WHOLE * capture.promised:
            raise DataError(f"{shown(name)} ends after {index} of {capture.promised} frames; expected a whole video")


WHOLE = 0.9  # of the frames that a file promises; edits hide some
EXPECTED_VIDEO = "a webcam that is free, or a video that OpenCV decodes, such as H.264 or VP9: convert others"


class Capture:
    """An open video or webcam."""

    def __init__(self, name: str, address: str | int) -> None:
        import cv2

        # FFmpeg and OpenCV write what they think of a file to standard error; the DataError says it.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self.cv2: Any = cv2
        self.cv2.utils.logging.setLogLevel(0)
        self.name = name
        # Of a file that FFmpeg refuses, OpenCV's other readers make nothing but noise.
        self.video = cv2.VideoCapture(address, cv2.CAP_ANY if isinstance(address, int) else cv2.CAP_FFMPEG)
        if not self.video.isOpened():
            raise DataError(f"{shown(name)} cannot be opened; expected {EXPECTED_VIDEO}")
        self.rate = self.video.get(cv2.CAP_PROP_FPS)
        # AVI and MP4 count their frames; elsewhere OpenCV guesses the number from a duration and a rate.
        counted = not isinstance(address, int) and Path(address).suffix.lower() in COUNTED
        self.promised = int(self.video.get(cv2.CAP_PROP_FRAME_COUNT)) if counted else 0

    def advance(self) -> bool:
        """Go on to the next frame, if there is one."""
        return bool(self.video.grab())

    def image(self) -> Picture:
        whole, image = self.video.retrieve()
        if not whole:
            raise DataError(f"{shown(self.name)} has a frame that cannot be decoded; expected {EXPECTED_VIDEO}")
        return np.asarray(self.cv2.cvtColor(image, self.cv2.COLOR_BGR2RGB))

    def seconds(self, index: int) -> float:
        """When the last frame is shown; by its number where the file does not say."""
        stamp = self.video.get(self.cv2.CAP_PROP_POS_MSEC) / 1000
        return stamp if stamp > 0 or index == 0 or not self.rate > 0 else index / self.rate

    def close(self) -> None:
        self.video.release()


def as_picture(image: Any) -> Picture:
    """An array as a Picture: uint8, RGB or grey. Raises DataError for any other."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        given = f"array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"image is {given}; expected a path or a uint8 array, 0..255, RGB or grey")
    grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
    if not (grey or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise DataError(f"image has shape {image.shape}; expected (height, width, 3), RGB, or (height, width), grey")
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2) if grey else image


def read_picture(path: str | Path) -> Picture:
    """The first frame of a file, as RGB. Raises DataError, which names the file and the cause."""
    return next(open_source(os.fspath(path))).image


def shown(text: str) -> str:
    """A name on one line, whatever characters it has."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def reason(error: BaseException) -> str:
    """What an error says, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(" ".join(text.split()))[:200] or type(error).__name__
