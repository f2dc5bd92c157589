"""Faces of a video's frames in; the same faces with the person they belong to and steady labels, and a timeline, out."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from mien.errors import DataError
from mien.inference.annotate import colour_of
from mien.inference.classifier import DIGITS, Face
from mien.inference.media import reason, shown
from mien.inference.schema import Result, TextFile, begins, readable, to_json

OVERLAP = 0.25  # IoU: faces move by less than half their size between frames
GROWTH = 1.6  # times as large, or as small, a face may be in the next frame
PATIENCE = 1.0  # seconds a face may be out of sight and still be the same person's
HALF_LIFE = 0.25  # seconds after which a frame's probabilities weigh half of what they did
WINDOW = 1.0  # seconds over which a label must prevail
MOST_LABELS = 256  # kept of a person, for memory's sake, however fast frames come

Box = tuple[int, int, int, int]


@dataclass
class Person:
    """Someone followed: where they were last, and what was read in their face of late."""

    number: int
    face: Face  # as last given out: its probabilities are the smoothed ones
    seconds: float
    labels: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MOST_LABELS))


class Follower:
    """Knows persons again from frame to frame by where their faces are, and steadies what is read in them.

    Probabilities are smoothed exponentially over time, and the label is the one most frequent among the smoothed ones
    of the last second: a blink or a single misread frame changes nothing.
    """

    def __init__(self, *, minimum_confidence: float = 0.0) -> None:
        self.minimum_confidence = minimum_confidence
        self.persons: list[Person] = []
        self.known = 0  # persons seen so far
        self.seconds = 0.0

    def follow(self, faces: Sequence[Face], seconds: float) -> tuple[Face, ...]:
        """The faces of the next frame, numbered and steadied, in the order given."""
        patience = patience_for(seconds - self.seconds)
        self.persons = [person for person in self.persons if seconds - person.seconds <= patience]
        self.seconds = seconds
        persons = match([person.face.box for person in self.persons], [face.box for face in faces])
        return tuple(
            self.greet(face, seconds) if at is None else self.steady(self.persons[at], face, seconds)
            for face, at in zip(faces, persons, strict=True)
        )

    def greet(self, face: Face, seconds: float) -> Face:
        """Someone new."""
        self.known += 1
        uncertain = face.confidence < self.minimum_confidence
        person = Person(self.known, replace(face, person=self.known, uncertain=uncertain), seconds)
        person.labels.append((seconds, face.emotion))
        self.persons.append(person)
        return person.face

    def steady(self, person: Person, face: Face, seconds: float) -> Face:
        """A known person's next face, its probabilities and label steadied by the last ones."""
        probabilities = blend(person.face.probabilities, face.probabilities, seconds - person.seconds)
        person.labels.append((seconds, max(probabilities, key=probabilities.__getitem__)))
        while person.labels[0][0] < seconds - WINDOW:
            person.labels.popleft()
        emotion = prevailing([label for _, label in person.labels], person.face.emotion)
        confidence = probabilities[emotion]
        person.face = replace(
            face,
            person=person.number,
            probabilities=probabilities,
            emotion=emotion,
            confidence=confidence,
            uncertain=confidence < self.minimum_confidence,
        )
        person.seconds = seconds
        return person.face


def patience_for(gap: float) -> float:
    """How many seconds someone may be out of sight where frames are so far apart: two of them may be missed."""
    return max(PATIENCE, 3 * gap)


def match(before: Sequence[Box], now: Sequence[Box]) -> list[int | None]:
    """Which box of the frame before each box of this one continues, if any: the largest overlaps first, each once."""
    pairs = sorted(
        ((overlap(old, new), row, column) for row, old in enumerate(before) for column, new in enumerate(now)),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )
    found: dict[int, int] = {}
    taken: set[int] = set()
    for share, row, column in pairs:
        alike = share >= OVERLAP and 1 / GROWTH <= now[column][2] / before[row][2] <= GROWTH
        if alike and row not in taken and column not in found:
            found[column] = row
            taken.add(row)
    return [found.get(column) for column in range(len(now))]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0, width) * max(0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def blend(old: dict[str, float], new: dict[str, float], seconds: float) -> dict[str, float]:
    """Old probabilities moved towards new ones, the further the more time has passed; they still sum to one."""
    share = 1 - 0.5 ** (max(0.0, seconds) / HALF_LIFE)
    return {name: old[name] + share * (new[name] - old[name]) for name in new}


def prevailing(labels: Sequence[str], before: str) -> str:
    """The most frequent label; of several, the one that prevailed before, else the latest."""
    counts = Counter(labels)
    most = {label for label, number in counts.items() if number == max(counts.values())}
    return before if before in most else next(label for label in reversed(labels) if label in most)


@dataclass(frozen=True)
class Span:
    """A time during which one person's label did not change: a row of the timeline.

    start, end: seconds of its first and its last frame. frames: how many were read. confidence: their mean.
    """

    source: str
    person: int
    emotion: str
    first_frame: int
    last_frame: int
    start: float
    end: float
    frames: int
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the order of the keys is part of the schema."""
        return {
            "source": readable(self.source),
            "person": self.person,
            "emotion": self.emotion,
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "frames": self.frames,
            "confidence": round(self.confidence, DIGITS),
        }


@contextmanager
def open_timeline(path: Path) -> Iterator["TimelineWriter"]:
    """Write the spans of results to a new file: JSON lines, or a chart where its name ends in .svg.

    What is broken off holds the spans up to then. Raises DataError where the file exists or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", buffering=1) as file:
            writer = ChartWriter(path, file) if path.suffix.lower() == ".svg" else TimelineWriter(path, file)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(f"{shown(str(path))} cannot be written ({reason(error)}); expected a new file, and room for it")


class TimelineWriter:
    """Writes each span as soon as it ends; `open_timeline` makes one."""

    def __init__(self, path: Path, file: TextFile) -> None:
        self.path = path
        self.file = file
        self.timeline = Timeline()

    def add(self, result: Result) -> None:
        self.write(self.timeline.add(result))

    def close(self) -> None:
        """Write the spans that have not ended."""
        self.write(self.timeline.close())

    def write(self, spans: Iterable[Span]) -> None:
        self.put("".join(to_json(span.to_dict()) + "\n" for span in spans))

    def put(self, text: str) -> None:
        try:
            self.file.write(text)
        except OSError as error:
            raise cannot_write(self.path, error) from error


class ChartWriter(TimelineWriter):
    """Keeps spans, a few hundred bytes each, and draws them all in the end."""

    def __init__(self, path: Path, file: TextFile) -> None:
        super().__init__(path, file)
        self.spans: list[Span] = []

    def write(self, spans: Iterable[Span]) -> None:
        self.spans += spans

    def close(self) -> None:
        super().close()
        self.put(chart(self.spans))


LABELS, BARS, ROW = 220, 760, 26  # pixels: of names, of time, of a person
KEYS, KEY = 6, 125  # names of colours in a line, and the pixels of each


def chart(spans: Sequence[Span]) -> str:
    """Spans as SVG: a row a person, time to the right, and what they looked like in its colour and its title."""
    rows = list(dict.fromkeys((span.source, span.person) for span in spans))
    names = sorted({span.emotion for span in spans})
    seconds = max((span.end for span in spans), default=0.0) or 1.0
    parts = [
        f'<text x="4" y="{ROW * row + 17}">{label(source, person)}</text>' for row, (source, person) in enumerate(rows)
    ]
    for span in spans:
        left, right = (LABELS + BARS * at / seconds for at in (span.start, span.end))
        top = ROW * rows.index((span.source, span.person)) + 3
        said = f"{escape(span.emotion)}, {span.start:.2f} to {span.end:.2f} s, {span.confidence:.0%}"
        parts.append(
            f'<rect x="{left:.1f}" y="{top}" width="{max(1.0, right - left):.1f}" height="{ROW - 6}" '
            f'fill="{colour_of(span.emotion, names)}"><title>{said}</title></rect>'
        )
    bottom = ROW * len(rows) + 18
    for place, name in enumerate(names):
        square = f'<tspan fill="{colour_of(name, names)}">■</tspan>'
        line, column = divmod(place, KEYS)
        at = f'x="{LABELS + KEY * column}" y="{bottom + ROW * (1 + line)}"'
        parts.append(f"<text {at}>{square} {escape(name)}</text>")
    parts += [
        f'<text x="{LABELS}" y="{bottom}">0 s</text>',
        f'<text x="{LABELS + BARS - 50}" y="{bottom}">{seconds:.1f} s</text>',
    ]
    size = f'width="{LABELS + BARS + 10}" height="{bottom + ROW * math.ceil(len(names) / KEYS) + 10}"'
    style = 'font-family="sans-serif" font-size="13"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def label(source: str, person: int) -> str:
    return escape(f"{shown(Path(source).name)[-22:]} #{person}")


class Timeline:
    """Spans that have not ended yet; give it each result in turn, then close it."""

    def __init__(self) -> None:
        self.source = ""
        self.seconds = 0.0
        self.open: dict[int, Span] = {}

    def add(self, result: Result) -> list[Span]:
        """The spans that end with this result."""
        if result.seconds is None or result.frame is None:
            return []
        ended = self.close() if begins(result, self.source) else self.expire(result.seconds)
        self.source, self.seconds = result.source, result.seconds
        for face in result.faces:
            if face.person is not None:
                ended += self.extend(face.person, face, span_of(result, face, face.person))
        return ended

    def extend(self, person: int, face: Face, span: Span) -> list[Span]:
        """Lengthen a person's span by a frame; or end it, and begin another, where the label is a new one."""
        last = self.open.get(person)
        self.open[person] = span if last is None or last.emotion != face.emotion else lengthened(last, span)
        return [last] if last is not None and last.emotion != face.emotion else []

    def expire(self, seconds: float) -> list[Span]:
        """End the spans of those out of sight for long."""
        patience = patience_for(seconds - self.seconds)
        ended = [span for span in self.open.values() if seconds - span.end > patience]
        for span in ended:
            del self.open[span.person]
        return ended

    def close(self) -> list[Span]:
        """End all spans."""
        ended = list(self.open.values())
        self.open = {}
        return ended


def span_of(result: Result, face: Face, person: int) -> Span:
    """A span of one frame."""
    frame, seconds = result.frame or 0, result.seconds or 0.0
    return Span(result.source, person, face.emotion, frame, frame, seconds, seconds, 1, face.confidence)


def lengthened(span: Span, by: Span) -> Span:
    frames = span.frames + by.frames
    confidence = span.confidence + (by.confidence - span.confidence) * by.frames / frames
    return replace(span, last_frame=by.last_frame, end=by.end, frames=frames, confidence=confidence)
