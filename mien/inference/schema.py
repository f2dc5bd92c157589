"""Results in; JSON, JSON lines or CSV out. What is written here is a promise: keys may be added, never changed.

A result, a line of JSONL and an item of "results" in JSON:

    source    the file, "webcam 0" or "standard input"
    frame     its number in a video or animation, from 0; 0 for a photo; null where nothing could be read
    seconds   when that frame is shown; null for a photo
    width, height    of the picture, pixels; null where nothing could be read
    faces     from left to right; [] where no face was found, which is no error
    error     why the source could not be read, in a line; null where it could

A face:

    person    its number among those followed through a video, from 1; null in a photo
    box       [x, y, width, height], pixels; x and y from the upper left, and less than 0 where it leaves the picture
    score     how sure the detector is that it is a face, 0 to 1
    emotion   the likeliest class; in a video the one that prevailed over the last second
    confidence, uncertain    the probability of that class, and whether it is below the minimum asked for
    probabilities    of each class, by its name, in the model's order; in a video smoothed over time

JSON is one object: {"schema": "mien 1", "classes": […], "results": […]}. CSV has a row for each face, and one without a
face for each frame or source that has none; its columns are those keys, the box's four apart and each class's
probability by its name. All are valid up to the last result if the reading is broken off.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mien.errors import RecipeError
from mien.inference.classifier import Face
from mien.inference.media import Picture

SCHEMA = "mien 1"
FORMS = ("json", "jsonl", "csv")
FRAME_COLUMNS = ("source", "frame", "seconds")
FACE_COLUMNS = ("person", "x", "y", "width", "height", "score", "emotion", "confidence", "uncertain")


@dataclass(frozen=True)
class Result:
    """What was read in one frame, or why nothing was: the keys of the schema above.

    image: the frame itself, where it was asked for; it is not written out.
    """

    source: str
    frame: int | None = None
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    faces: tuple[Face, ...] = ()
    error: str | None = None
    image: Picture | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "source": readable(self.source),
            "frame": self.frame,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "error": None if self.error is None else readable(self.error),
        }


def begins(result: Result, source: str) -> bool:
    """Whether a result is the first of another source than the last one's, or of the same video once more."""
    return result.source != source or result.frame == 0


@runtime_checkable
class TextFile(Protocol):
    """What text is written to: standard output, a file."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@runtime_checkable
class Writer(Protocol):
    """Where results are written to, one by one."""

    def add(self, result: Result) -> None: ...


@contextmanager
def open_writer(form: str, file: TextFile, *, classes: Sequence[str]) -> Iterator[Writer]:
    """Write results to `file` as "json", "jsonl" or "csv"; what is written ends well also where the block is broken off."""
    if form == "json":
        document = JsonWriter(file, classes)
        try:
            yield document
        finally:
            document.end()
    elif form == "jsonl":
        yield JsonLinesWriter(file)
    elif form == "csv":
        yield CsvWriter(file, classes)
    else:
        raise RecipeError(f"form is {form!r}; expected {', '.join(FORMS)}")


class JsonLinesWriter:
    def __init__(self, file: TextFile) -> None:
        self.file = file

    def add(self, result: Result) -> None:
        self.file.write(to_json(result.to_dict()) + "\n")
        self.file.flush()


class JsonWriter:
    def __init__(self, file: TextFile, classes: Sequence[str]) -> None:
        self.file = file
        self.between = "\n"
        self.file.write(f'{{"schema": "{SCHEMA}", "classes": {to_json(list(classes))}, "results": [')

    def add(self, result: Result) -> None:
        # In one piece: an interrupt may come between any two.
        self.file.write(self.between + to_json(result.to_dict()))
        self.between = ",\n"

    def end(self) -> None:
        self.file.write("\n]}\n")
        self.file.flush()


class CsvWriter:
    def __init__(self, file: TextFile, classes: Sequence[str]) -> None:
        self.file = file
        self.classes = tuple(classes)
        self.writer = csv.writer(file, lineterminator="\n")
        self.writer.writerow((*FRAME_COLUMNS, *FACE_COLUMNS, *self.classes, "error"))

    def add(self, result: Result) -> None:
        values = result.to_dict()
        start = [values[column] for column in FRAME_COLUMNS]
        nothing = [None] * (len(FACE_COLUMNS) + len(self.classes))
        rows = [self.columns(face) for face in values["faces"]] or [nothing]
        self.writer.writerows([*start, *row, values["error"]] for row in rows)
        self.file.flush()

    def columns(self, face: dict[str, Any]) -> list[Any]:
        """The values of FACE_COLUMNS and of the classes."""
        values = {**face, **dict(zip(("x", "y", "width", "height"), face["box"], strict=True))}
        return [*(values[column] for column in FACE_COLUMNS), *(face["probabilities"][name] for name in self.classes)]


def to_json(value: Any) -> str:
    """JSON on a line, in ASCII: a terminal of any encoding takes it."""
    return json.dumps(value, allow_nan=False)


def readable(text: str) -> str:
    """Text without the lone surrogates that Python puts for a file name's undecodable bytes: no encoder takes those."""
    return text.encode(errors="backslashreplace").decode()
