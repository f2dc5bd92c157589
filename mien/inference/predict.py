"""Sources and a Classifier in; a Result for each frame, in order, out: what `mien predict` does, without printing.

One thread reads, several find faces, and the caller's own classifies the faces of many frames at once. All queues are
bounded, so memory does not grow with the number of files or the length of a video.
"""

import io
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue
from typing import TypeAlias

import numpy as np

from mien.emotions import Images
from mien.errors import DataError
from mien.inference.classifier import Classifier, crop_all
from mien.inference.faces import Box, Detector, find_detector
from mien.inference.media import Frame, Missing, list_sources, name_of, open_source, reason, shown
from mien.inference.schema import Result, begins
from mien.inference.timeline import Follower
from mien.machine import cores

BATCH = 64  # faces to classify at once; far larger ones are no faster
MOST_FRAMES = 32  # that may wait for a batch to fill
MOST_PIXELS = 2**25  # of images that are kept while they wait: 100 MB
PAUSE = 0.1  # seconds without a new frame after which a batch is not waited for


@dataclass(frozen=True)
class Found:
    """A frame's result but for its faces, and the faces cut out of it. live: it is not to wait for others."""

    result: Result
    boxes: tuple[Box, ...] = ()
    images: Images | None = None
    live: bool = False


Waiting: TypeAlias = "Queue[Future[Found] | BaseException | None]"  # None is the end


def predict_sources(
    sources: Iterable[str],
    classifier: Classifier,
    *,
    detector: Detector | None = None,
    every: int = 1,
    animated: bool = False,
    smooth: bool = True,
    keep_images: bool = False,
    workers: int | None = None,
    stdin: io.BufferedReader | None = None,
) -> Generator[Result, None, None]:
    """Read the faces of each frame of files, folders, globs, videos, webcams ("0") and standard input ("-").

    A frame without a face is a Result without faces; a source that cannot be read is a Result with an error, and the
    others go on. detector: `find_detector()` where none is given. every: of what moves, read each so-manieth frame.
    animated: read all pictures of a GIF. smooth: follow faces through what moves, and steady what is read in them.
    keep_images: give each frame's image with its Result. workers: threads that find faces. Close it to end early.
    """
    finder = detector or find_detector()
    moving = finder.for_video()
    frames = read_frames(sources, every=every, animated=animated, stdin=stdin)

    def find(frame: Frame | Result) -> Found:
        return find_faces(frame, finder if is_still(frame) else moving, keep_image=keep_images)

    with closing(in_background(frames, find, workers=workers or min(4, cores()))) as found:
        results = (result for batch in batches(found) for result in classify(batch, classifier))
        yield from follow(results, classifier.minimum_confidence) if smooth else results


def read_frames(
    sources: Iterable[str], *, every: int, animated: bool, stdin: io.BufferedReader | None
) -> Generator[Frame | Result, None, None]:
    """The frames of all sources, and a Result for each that fails."""
    with own_stdin() as own:
        stream = stdin or own
        for source in list_sources(sources, stdin=stream):
            if isinstance(source, Missing):
                yield Result(source.source, error=source.error)
                continue
            try:
                yield from open_source(source, every=every, animated=animated, stdin=stream)
            except DataError as error:
                yield Result(name_of(source), error=str(error))


def is_still(frame: Frame | Result) -> bool:
    return frame.seconds is None


def find_faces(frame: Frame | Result, detector: Detector, *, keep_image: bool) -> Found:
    """The faces of a frame, cut out; what fails on the way fails that frame alone."""
    import cv2

    if isinstance(frame, Result):
        return Found(frame)
    height, width = frame.image.shape[:2]
    result = Result(frame.source, frame.index, frame.seconds, width, height, image=frame.image if keep_image else None)
    try:
        boxes = detector.find(frame.image)
        images = crop_all(frame.image, boxes)
    except (cv2.error, MemoryError) as error:
        fault = f"{shown(frame.source)} cannot be searched for faces ({reason(error)}); expected a smaller picture"
        return Found(replace(result, error=fault))
    return Found(result, boxes, images, live=frame.source.startswith("webcam "))


def in_background(
    frames: Generator[Frame | Result, None, None], find: Callable[[Frame | Result], Found], *, workers: int
) -> Generator[Found | None, None, None]:
    """What `find` gives for each frame, in order, worked out ahead in threads; None whenever none came for a while."""
    waiting: Waiting = Queue(maxsize=2 * workers)
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mien find")
    # A daemon: it may hang in a read that nothing ends, and must not keep the program from ending.
    threading.Thread(target=submit, args=(frames, find, pool, waiting, stop), name="mien read", daemon=True).start()
    try:
        while True:
            try:
                future = waiting.get(timeout=PAUSE)
            except Empty:
                yield None
                continue
            if isinstance(future, BaseException):
                raise future
            if future is None:
                return
            yield future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def submit(
    frames: Generator[Frame | Result, None, None],
    find: Callable[[Frame | Result], Found],
    pool: ThreadPoolExecutor,
    waiting: Waiting,
    stop: threading.Event,
) -> None:
    """Hand each frame to the pool, as long as there is room; the end, or what went wrong, comes last."""
    end: BaseException | None = None
    try:
        with closing(frames):
            for frame in frames:
                if stop.is_set():
                    return
                put(waiting, pool.submit(find, frame), stop)
    except BaseException as error:  # noqa: BLE001 (raised again in the thread that asks for the frames)
        end = error
    put(waiting, end, stop)


def put(waiting: Waiting, item: "Future[Found] | BaseException | None", stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(Full):
            return waiting.put(item, timeout=PAUSE)
    return None


def batches(found: Iterable[Found | None]) -> Iterator[list[Found]]:
    """Frames gathered until their faces fill a batch, too many wait, one is live or a pause begins."""
    batch: list[Found] = []
    for item in found:
        if item is not None:
            batch.append(item)
        if batch and (item is None or item.live or is_full(batch)):
            yield batch
            batch = []
    if batch:
        yield batch


def is_full(batch: list[Found]) -> bool:
    faces = sum(len(item.boxes) for item in batch)
    pixels = sum(item.result.image.size // 3 for item in batch if item.result.image is not None)
    return faces >= BATCH or len(batch) >= MOST_FRAMES or pixels >= MOST_PIXELS


def classify(batch: list[Found], classifier: Classifier) -> Iterator[Result]:
    """The results of some frames, their faces classified at once."""
    images = [item.images for item in batch if item.images is not None and len(item.images)]
    probabilities = classifier.predict(np.concatenate(images)) if images else None
    start = 0
    for item in batch:
        end = start + len(item.boxes)
        faces = () if probabilities is None else classifier.name_faces(item.boxes, probabilities[start:end])
        yield replace(item.result, faces=faces)
        start = end


def follow(results: Iterable[Result], minimum_confidence: float) -> Iterator[Result]:
    """The results, with the faces of what moves followed from frame to frame; each source has persons of its own."""
    source, follower = "", Follower()
    for result in results:
        if begins(result, source):
            source, follower = result.source, Follower(minimum_confidence=minimum_confidence)
        if result.seconds is None or result.error is not None:
            yield result
        else:
            yield replace(result, faces=follower.follow(result.faces, result.seconds))


@contextmanager
def own_stdin() -> Iterator[io.BufferedReader | None]:
    """Standard input under a number of its own; None where it is closed.

    Python dies with a fatal error if it ends while a thread waits in sys.stdin itself.
    """
    try:
        number = os.dup(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):
        yield None
        return
    with os.fdopen(number, "rb") as stream:
        yield stream
