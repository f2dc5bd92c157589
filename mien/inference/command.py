"""The words after `mien predict` in; results printed, drawn and written, and an exit code, out."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.status import Status
from rich.text import Text

from mien.errors import DataError, RecipeError

if TYPE_CHECKING:  # the others' modules are loaded when there is something to predict, not to list the verbs
    from mien.inference.schema import Result, TextFile, Writer

READ_ALL, SOME_FAILED, READER_GONE = 0, 3, 141  # exit codes; 1, 2 and 130 are those of every verb
err = Console(stderr=True)


def predict(
    *sources: Annotated[str, Parameter(allow_leading_hyphen=True)],  # "-" is standard input
    model: str = "base",
    detector: str | None = None,
    smallest_face: int | None = None,
    every: int = 1,
    animated: bool = False,
    smooth: Annotated[bool, Parameter(negative="--no-smooth")] = True,
    min_confidence: float | None = None,
    operating_point: Literal["accuracy", "balanced"] = "accuracy",
    priors: str | None = None,
    json: bool = False,
    jsonl: bool = False,
    csv: bool = False,
    annotate: Path | None = None,
    timeline: Path | None = None,
    threads: int | None = None,
    provider: Sequence[str] = (),
) -> int:
    """Read the expressions of the faces in photos, folders, videos or a webcam.

    Exit codes: 0 where every source was read, with or without faces; 3 where some or all could not be read or drawn; 1
    where nothing was begun or results could not be written; 130 on Ctrl-C. What was written is whole.

    Args:
        sources: Files, folders, globs, a webcam's number, or - for paths on standard input (or one picture itself).
        model: A model that comes with mien, or an ONNX file that `mien export` wrote.
        detector: haar, none (each picture is one face already) or yunet=FILE; YuNet where MIEN_YUNET names its file.
        smallest_face: Side of the smallest face to look for, pixels from 24; a 20th of the longer side where none is given.
        every: Of videos, read each so-manieth frame.
        animated: Read all pictures of a GIF, not the first alone.
        smooth: Follow faces through videos, and steady what is read in them.
        min_confidence: Mark faces as uncertain whose likeliest expression has less than this, 0 to 1; the model's own
            threshold where none is given.
        operating_point: accuracy, or balanced, which finds rare expressions more often.
        priors: Share of every expression among those to be read, such as happy=0.4,sad=0.1,…; FER2013's where none is given.
        json: Print one JSON document instead of a table.
        jsonl: Print a line of JSON for each picture or frame.
        csv: Print CSV, a row for each face.
        annotate: Draw what was read: a folder for a picture each, or one new .mp4 for all.
        timeline: Write who looked how from when to when, in videos: a new file of JSON lines, or a chart in .svg.
        threads: How many threads compute; all cores where none are given.
        provider: Of ONNX Runtime, such as CUDAExecutionProvider; the CPU where none is given.
    """
    form = choose_form(json=json, jsonl=jsonl, csv=csv)
    check_sources(sources)
    if timeline is not None and not smooth:
        raise RecipeError(
            "--timeline and --no-smooth came; expected one of them: a timeline is of persons, who are followed"
        )
    from mien.inference.classifier import load, parse_priors
    from mien.inference.faces import find_detector
    from mien.inference.media import check_every
    from mien.inference.predict import predict_sources

    check_every(every)
    classifier = load(
        model,
        threads=threads,
        providers=provider or None,
        operating_point=operating_point,
        minimum_confidence=min_confidence,
        priors=parse_priors(priors) if priors else None,
    )
    finder = find_detector(detector, smallest=smallest_face)
    if threads is not None:
        limit_opencv(threads)
    results = predict_sources(
        sources,
        classifier,
        detector=finder,
        every=every,
        animated=animated,
        smooth=smooth,
        keep_images=annotate is not None,
        workers=threads,
    )
    failures = Failures()
    with ExitStack() as stack:
        outputs = open_outputs(stack, failures, form, classifier.classes, annotate=annotate, timeline=timeline)
        for result in stack.enter_context(closing(results)):
            for output in outputs:
                output.add(result)
    return SOME_FAILED if failures.number else READ_ALL


def limit_opencv(threads: int) -> None:
    """OpenCV computes with threads of its own."""
    import cv2

    cv2.setNumThreads(threads)


def check_sources(sources: Sequence[str]) -> None:
    if not sources:
        raise RecipeError("no source came; expected files, folders, globs, a webcam's number or -, such as photo.jpg")
    for source in sources:
        if source.startswith("-") and source != "-" and not os.path.lexists(source):
            raise RecipeError(f"there is no option {source}; expected one that `mien predict --help` lists")


def choose_form(**asked: bool) -> str:
    """The one form that was asked for, else a table."""
    forms = [form for form, wanted in asked.items() if wanted] or ["table"]
    if len(forms) > 1:
        raise RecipeError(f"--{' and --'.join(forms)} came; expected one of them: standard output holds one form")
    return forms[0]


def open_outputs(
    stack: ExitStack,
    failures: "Failures",
    form: str,
    classes: Sequence[str],
    *,
    annotate: Path | None,
    timeline: Path | None,
) -> list["Writer"]:
    """Everything that each result goes to; files that are there already are refused before anything is read."""
    from mien.inference.annotate import open_annotations
    from mien.inference.schema import open_writer
    from mien.inference.timeline import open_timeline

    files: list[Writer] = []
    if annotate is not None:
        files.append(Forgiving(stack.enter_context(open_annotations(annotate)), failures))
    if timeline is not None:
        files.append(stack.enter_context(open_timeline(timeline)))
    file = stack.enter_context(standard_output())
    printed = Table(file, classes) if form == "table" else stack.enter_context(open_writer(form, file, classes=classes))
    return [failures, printed, *files, stack.enter_context(open_progress())]


@contextmanager
def standard_output() -> Iterator["TextFile"]:
    """Standard output, which may be closed, be full or lose its reader; the last ends the program quietly."""
    if sys.stdout is None:
        raise DataError("standard output is closed; expected a terminal, file or pipe")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have letters that the terminal's encoding lacks
    try:
        yield sys.stdout
    except OSError as error:
        # Python would try once more to write what is left when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(READER_GONE)
        raise DataError(f"standard output cannot be written ({error.strerror}); free space there") from error


class Failures:
    """Says on standard error what could not be read or drawn, and counts it."""

    def __init__(self) -> None:
        self.number = 0

    def add(self, result: "Result") -> None:
        if result.error is not None:
            self.tell(result.error)

    def tell(self, error: str) -> None:
        self.number += 1
        err.print(Text.assemble(("error: ", "bold red"), error), soft_wrap=True)


class Forgiving:
    """Passes results on; where a source's cannot be written, that is a failure, and the next source goes on."""

    def __init__(self, writer: "Writer", failures: Failures) -> None:
        self.writer = writer
        self.failures = failures
        self.failed: str | None = None  # the source

    def add(self, result: "Result") -> None:
        if result.source == self.failed and result.seconds is not None:
            return
        try:
            self.writer.add(result)
        except DataError as error:
            from mien.inference.annotate import LateError

            self.failures.tell(str(error))
            if not isinstance(error, LateError):
                self.failed = result.source


COLUMNS = "{:<12} {:>5}  {:<22} {:>9} {:>4}  {}"


class Table:
    """Prints a line for each face as it comes; of fixed width, since a video's or a webcam's length is not known."""

    def __init__(self, file: "TextFile", classes: Sequence[str]) -> None:
        self.file = file
        self.columns = COLUMNS.replace("<12", f"<{max(12, 1 + max(map(len, classes)))}")
        self.line("expression", "sure", "x,y width x height", "time", "who", "source")

    def line(self, *values: str) -> None:
        self.file.write(self.columns.format(*values).rstrip() + "\n")
        self.file.flush()

    def add(self, result: "Result") -> None:
        from mien.inference.media import shown

        if result.error is not None:
            return
        time = "" if result.seconds is None else f"{result.seconds:.2f} s"
        for face in result.faces:
            x, y, width, height = face.box
            who = "" if face.person is None else f"#{face.person}"
            label = face.emotion + "?" * face.uncertain
            self.line(label, f"{face.confidence:.0%}", f"{x},{y} {width}x{height}", time, who, shown(result.source))
        if not result.faces:
            self.line("no face", "", "", time, "", shown(result.source))


@contextmanager
def open_progress() -> Iterator["Progress"]:
    """Say on standard error how far it has come; not where results go to the same terminal and say so themselves."""
    quiet = not err.is_terminal or sys.stdout.isatty()
    with Console(stderr=True, quiet=quiet).status("reading") as status:
        yield Progress(status)


class Progress:
    """Counts pictures, frames and faces."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.frames = self.faces = 0

    def add(self, result: "Result") -> None:
        self.frames += 1
        self.faces += len(result.faces)
        self.status.update(f"{self.frames:,} pictures, {self.faces:,} faces")
