"""The whole way from sources to results, with a tiny model: order, batches, failures, memory, and how it ends."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.inference import predict as module
from mien.inference.faces import Box, HaarDetector, WholePicture
from mien.inference.predict import predict_sources
from mien.inference.schema import Result


def write_faces(folder: Path, number: int) -> np.ndarray:
    """Faces that differ, as 48×48 PNGs: im0.png, im1.png, …"""
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (number, 48, 48, 1), np.uint8)
    for row, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / f"im{row}.png")
    return images


def write_clip(path: Path, image: np.ndarray, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, image.shape[1::-1])
    for _ in range(frames):
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def counting(classifier, monkeypatch):
    """Count what reaches the tiny model's `predict`."""
    batches: list[int] = []
    predict = type(classifier).predict

    def count(self, images):
        batches.append(len(images))
        return predict(self, images)

    monkeypatch.setattr(type(classifier), "predict", count)
    return batches


def test_a_folder_is_read_in_order_and_in_batches(classifier, counting, tmp_path):
    images = write_faces(tmp_path / "faces", 150)
    results = list(predict_sources([str(tmp_path / "faces")], classifier, detector=WholePicture(), workers=3))
    assert [Path(result.source).name for result in results] == [f"im{row}.png" for row in range(150)]
    assert sum(counting) == 150
    assert len(counting) < 25  # many images at a time, not one
    expected = classifier.predict(images)
    for result, row in zip(results, expected, strict=True):
        (face,) = result.faces
        assert list(face.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-6)
        assert face.person is None
        assert (result.frame, result.seconds, result.width, result.height, result.error) == (0, None, 48, 48, None)


def test_what_cannot_be_read_is_a_result_and_the_others_go_on(classifier, tmp_path):
    write_faces(tmp_path, 3)
    (tmp_path / "im1.png").write_bytes(b"")
    (tmp_path / "im3.png").write_bytes(b"no picture")
    sources = [str(tmp_path), "absent.jpg", f"{tmp_path}/*.gif", str(tmp_path / "im0.png"), "-"]
    results = list(
        predict_sources(sources, classifier, detector=WholePicture(), stdin=io.BufferedReader(io.BytesIO(b"-\n")))
    )
    assert [None if result.error is None else result.error.split("; ")[0].rsplit("/", 1)[-1] for result in results] == [
        None,
        "im1.png is empty",
        None,
        "im3.png is no picture",
        "absent.jpg cannot be opened (No such file or directory)",
        "*.gif matches nothing",
        None,
        "standard input, line 1 is '-'",
    ]
    assert [len(result.faces) for result in results] == [1, 0, 1, 0, 0, 0, 1, 0]
    assert results[4].source == "absent.jpg"


def test_a_photo_without_faces_is_no_failure(classifier, tmp_path):
    Image.new("RGB", (90, 90)).save(tmp_path / "black.png")
    (result,) = predict_sources([str(tmp_path / "black.png")], classifier)
    assert (result.faces, result.error) == ((), None)


def test_faces_are_found_and_read_as_by_read(classifier, astronaut, tmp_path):
    Image.fromarray(astronaut[:256, 64:384]).save(tmp_path / "a.png")
    (result,) = predict_sources([str(tmp_path / "a.png")], classifier, detector=HaarDetector())
    assert result.faces == classifier.read(tmp_path / "a.png", detector=HaarDetector())
    assert len(result.faces) == 1
    assert result.image is None


def test_a_video_is_followed_and_steadied(classifier, astronaut, tmp_path):
    clip = write_clip(tmp_path / "clip.avi", np.ascontiguousarray(astronaut[:192, 128:320]), 8)
    results = list(predict_sources([str(clip), str(clip)], classifier, every=3, keep_images=True))
    assert [result.frame for result in results[:3]] == [0, 3, 6]
    assert [result.seconds for result in results[:3]] == pytest.approx([0.0, 0.3, 0.6])
    assert len(results) == 6
    assert [face.person for result in results[:3] for face in result.faces] == [1, 1, 1]
    assert all(result.image.shape == (192, 192, 3) for result in results)
    (plain, *_) = predict_sources([str(clip)], classifier, smooth=False)
    assert plain.faces[0].person is None
    assert plain.faces[0].box == results[0].faces[0].box


def test_an_animation_is_read_whole_on_request(classifier, tmp_path):
    first, *others = [Image.new("L", (48, 48), level) for level in (0, 120, 250)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=200)
    options = {"detector": WholePicture()}
    assert len(list(predict_sources([str(tmp_path / "a.gif")], classifier, **options))) == 1
    results = list(predict_sources([str(tmp_path / "a.gif")], classifier, animated=True, **options))
    assert [result.seconds for result in results] == pytest.approx([0, 0.2, 0.4])
    assert {face.person for result in results for face in result.faces} == {1}


def test_a_picture_on_standard_input_is_read(classifier, tmp_path):
    write_faces(tmp_path, 1)
    stdin = io.BufferedReader(io.BytesIO((tmp_path / "im0.png").read_bytes()))
    (result,) = predict_sources(["-"], classifier, detector=WholePicture(), stdin=stdin)
    assert (result.source, len(result.faces)) == ("standard input", 1)


def test_a_detector_that_fails_fails_that_picture_alone(classifier, tmp_path):
    class Choking:
        def find(self, image):
            if image[0, 0, 0] < 128:
                raise cv2.error("Insufficient\nmemory")
            return (Box(0, 0, 48, 48),)

        def for_video(self):
            return self

    for name, level in (("a", 200), ("b", 3), ("c", 200)):
        Image.new("L", (48, 48), level).save(tmp_path / f"{name}.png")
    results = list(predict_sources([str(tmp_path)], classifier, detector=Choking()))
    assert [len(result.faces) for result in results] == [1, 0, 1]
    assert "b.png cannot be searched for faces (Insufficient memory)" in results[1].error


def test_what_is_wrong_in_the_program_is_raised_here(classifier, tmp_path, monkeypatch):
    write_faces(tmp_path, 2)

    def fail(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(module, "open_source", fail)
    with pytest.raises(ZeroDivisionError):
        list(predict_sources([str(tmp_path)], classifier, detector=WholePicture()))


def test_reading_ahead_is_bounded(classifier, tmp_path):
    """Whoever takes one result does not have all files read: the rest waits."""
    write_faces(tmp_path, 1)
    asked = []

    class Noting:
        def find(self, image):
            asked.append(1)
            return ()

        def for_video(self):
            return self

    results = predict_sources([str(tmp_path / "im0.png")] * 500, classifier, detector=Noting(), workers=2)
    for _ in range(5):
        next(results)
    time.sleep(0.3)
    assert len(asked) <= module.MOST_FRAMES + 5 + 2 * 2 + 2 + 1
    results.close()


def test_closing_early_ends_the_threads(classifier, tmp_path):
    write_faces(tmp_path, 20)
    before = threading.active_count()
    results = predict_sources([str(tmp_path)] * 10, classifier, detector=WholePicture())
    next(results)
    results.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before


def test_paths_typed_one_by_one_are_answered_one_by_one(classifier, tmp_path):
    write_faces(tmp_path, 2)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as pipe:
        results = predict_sources(["-"], classifier, detector=WholePicture(), stdin=stdin)
        for name in ("im0.png", "im1.png"):
            pipe.write(f"{tmp_path}/{name}\n".encode())
            assert next(results).source == f"{tmp_path}/{name}"
        pipe.close()
        assert list(results) == []


def test_a_webcam_is_answered_frame_by_frame(classifier, counting, monkeypatch):
    def webcam(source, **options):
        for index in range(5):
            yield module.Frame("webcam 0", index, index / 30, np.full((48, 48, 3), 99, np.uint8))

    monkeypatch.setattr(module, "open_source", webcam)
    results = list(predict_sources(["0"], classifier, detector=WholePicture()))
    assert [result.frame for result in results] == list(range(5))
    assert counting == [1] * 5


def test_images_that_are_kept_do_not_pile_up(classifier, monkeypatch, tmp_path):
    """With images kept, a batch is closed when they weigh much, not when faces fill it."""
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(module, "MOST_PIXELS", 3 * 400 * 300)
    found = (module.Found(Result("a", 0, image=np.zeros((300, 400, 3), np.uint8))) for _ in range(7))
    assert [len(batch) for batch in module.batches(found)] == [3, 3, 1]


@pytest.mark.slow
def test_memory_is_flat_over_a_long_video(classifier, tmp_path):
    """The last hundreds of frames take no more memory than the first: what they hold is let go."""
    psutil = pytest.importorskip("psutil")
    clip = write_clip(tmp_path / "clip.avi", np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8), 600)
    process = psutil.Process()
    resident = []
    for count, _ in enumerate(predict_sources([str(clip)] * 2, classifier, detector=WholePicture(), keep_images=True)):
        if count % 200 == 199:
            resident.append(process.memory_info().rss)
    assert len(resident) == 6
    assert resident[-1] - resident[1] < 20 * 2**20


INTERRUPTED = """
import sys
from mien.inference.classifier import load
from mien.inference.predict import predict_sources
from mien.inference.schema import open_writer
classifier = load(sys.argv[1])
with open(sys.argv[2], "w") as file, open_writer("json", file, classes=classifier.classes) as writer:
    print("ready", flush=True)
    for result in predict_sources(["-"], classifier):
        writer.add(result)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for children")
def test_an_interrupt_ends_it_even_where_standard_input_gives_nothing(model_path, tmp_path):
    """Ctrl-C while `-` waits: it ends at once, JSON is whole, and Python does not die of the thread that reads."""
    command = [sys.executable, "-c", INTERRUPTED, str(model_path), str(tmp_path / "out.json")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as child:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        err = child.stderr.read()
    assert err.strip().endswith("KeyboardInterrupt")
    assert "Fatal" not in err
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []
