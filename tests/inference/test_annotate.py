"""What is drawn is where it should be; what cannot be written is said, and what is there is left alone."""

import errno
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.emotions import EMOTIONS
from mien.errors import DataError
from mien.inference import annotate as module
from mien.inference.annotate import COLOURS, WAITING, Annotations, annotate, colour_of, open_annotations
from mien.inference.classifier import Face
from mien.inference.command import Failures, Forgiving
from mien.inference.schema import Result

PROBABILITIES = dict(zip(EMOTIONS, (0.05, 0.0, 0.0, 0.8, 0.1, 0.05, 0.0), strict=True))


def face(box=(100, 80, 120, 120), emotion="happy", person=None, *, uncertain=False) -> Face:
    return Face(box, 0.9, emotion, PROBABILITIES, 0.8, uncertain, person)


def grey(height=300, width=400) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def photo(name="a.jpg", **changes) -> Result:
    return Result(name, 0, None, 400, 300, (face(),), image=grey(), **changes)


def test_the_box_is_drawn_in_the_emotions_colour_and_the_rest_is_left():
    image = grey()
    drawn = annotate(image, [face()])
    colour = tuple(bytes.fromhex(colour_of("happy", EMOTIONS)[1:]))
    for x, y in ((100, 140), (220, 140)):
        assert tuple(drawn[y, x].tolist()) == colour
    assert (image == 128).all()
    assert (drawn[:50] == 128).all()
    assert (drawn[:, :95] == 128).all()
    assert (drawn[85:195, 105:215] == 128).all()  # the face itself


def test_bars_are_as_long_as_their_classes_are_likely():
    drawn = annotate(grey(), [face()])
    colours = [tuple(bytes.fromhex(colour[1:])) for colour in COLOURS]
    first = drawn[204, 100:221]  # the upper edge of the first bar, above its text
    happy = colours[EMOTIONS.index("happy")]
    length = max(at for at, pixel in enumerate(first.tolist()) if tuple(pixel) == happy)
    assert length == pytest.approx(0.8 * 120, abs=1)


def test_an_emotion_has_one_colour_whatever_its_place():
    assert len({colour_of(emotion, EMOTIONS) for emotion in EMOTIONS}) == 7
    assert colour_of("sad", ("sad", "glad")) == colour_of("sad", EMOTIONS)
    mixed = ("alert", "angry", "sad", "sly")
    assert len({colour_of(name, mixed) for name in mixed}) == 4
    assert {colour_of(name, [f"{number}" for number in range(20)]) for name in ("0", "13")} <= set(COLOURS)


def test_a_person_and_doubt_are_shown():
    plain, numbered, doubtful = (
        annotate(grey(), [found]) for found in (face(), face(person=12), face(uncertain=True))
    )  # fmt: skip
    assert not np.array_equal(plain, numbered)
    assert not np.array_equal(plain, doubtful)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 900), st.integers(1, 900)), max_size=5
    ),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_any_box_may_be_drawn_on_any_picture(found, shape):
    drawn = annotate(grey(*shape), [face(box) for box in found])
    assert drawn.shape == (*shape, 3)
    assert found or (drawn == 128).all()


def test_photos_become_files_in_a_folder(tmp_path):
    target = tmp_path / "new" / "folder"
    with open_annotations(target) as annotations:
        annotations.add(photo(f"in/{'脸' * 83}.jpg"))
        (long,) = target.iterdir()
        long.rename(tmp_path / long.name)
        for name in ("in/a.jpg", "in/b.png", "other/a.jpg", "standard input"):
            annotations.add(photo(name))
        annotations.add(Result("bad.jpg", error="bad.jpg is empty"))
    assert sorted(path.name for path in target.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg", "standard input.jpg"]
    assert np.abs(np.asarray(Image.open(target / "a.jpg")).astype(int) - annotate(grey(), [face()])).mean() < 2


def clip(frames=6, *, source="clip.mp4", size=(300, 400), rate=10) -> list[Result]:
    return [
        Result(source, number, number / rate, size[1], size[0], (face(person=1),), image=grey(*size))
        for number in range(frames)
    ]


def read_back(path: Path) -> tuple[int, float, tuple[int, int]]:
    video = cv2.VideoCapture(str(path))
    size = (int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    rate, frames = video.get(cv2.CAP_PROP_FPS), 0
    while video.read()[0]:
        frames += 1
    video.release()
    return frames, rate, size


def test_videos_become_videos_at_their_rate(tmp_path):
    with open_annotations(tmp_path / "out") as annotations:
        for result in [*clip(6, rate=30), *clip(3, source="other.avi", rate=2), *clip(1, source="webcam 0")]:
            annotations.add(result)
    assert read_back(tmp_path / "out" / "clip.mp4") == (6, pytest.approx(30), (400, 300))
    assert read_back(tmp_path / "out" / "other.mp4") == (30, pytest.approx(20), (400, 300))
    assert read_back(tmp_path / "out" / "webcam 0.mp4")[0] == 1


@pytest.mark.parametrize(
    ("times", "rate", "frames"),
    [
        ([0, 2, 2.05, 2.1, 2.15], 20, 44),  # a first picture that is held
        ([number / 30 for number in range(8)] + [1, 2, 3], 30, 120),  # a webcam whose frames had gathered
        ([number * 0.007 for number in range(61)], 60, 26),  # more than most players show
        ([round(number / 60, 3) for number in range(300)], 60, 300),  # a container that rounds to milliseconds
        ([round(number / 24, 3) for number in range(300)], 24.02, 300),
        ([number / 2 for number in range(9)] + [4 + number / 20 for number in range(1, 41)], 20, 121),  # a slow start
        ([0, 1000, 2000], 20, 3),  # a clock that leaps
        ([0, 0.05, 2.05], 20, 81),  # two intervals, and neither is near their mean
        ([0.0] * 12, 30, 12),
    ],
)
def test_a_video_lasts_as_long_as_what_it_shows(tmp_path, times, rate, frames):
    with open_annotations(tmp_path / "out.mp4") as annotations:
        for result, seconds in zip(clip(len(times)), times, strict=True):
            annotations.add(replace(result, seconds=float(seconds)))
    assert read_back(tmp_path / "out.mp4")[:2] == (frames, pytest.approx(rate))


def test_one_file_takes_all_frames_fitted_into_the_first(tmp_path):
    with open_annotations(tmp_path / "all.mp4") as annotations:
        for result in [*clip(4, size=(101, 201), rate=30), photo(), *clip(2, source="other.mp4", rate=30)]:
            annotations.add(result)
    assert read_back(tmp_path / "all.mp4") == (7, pytest.approx(30), (202, 102))
    assert [path.name for path in tmp_path.iterdir()] == ["all.mp4"]


def test_a_video_broken_off_holds_what_was_done(tmp_path):
    def draw() -> None:
        with open_annotations(tmp_path / "out.mp4") as annotations:
            for result in clip(4, rate=30):
                annotations.add(result)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert read_back(tmp_path / "out.mp4")[0] == 4


def test_a_video_that_fails_late_does_not_cost_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "check_readable", refuse_first())
    failures = Failures()
    with open_annotations(tmp_path) as annotations:
        writer = Forgiving(annotations, failures)
        for result in [*clip(3, source="bad.mp4", rate=30), *clip(3, source="good.mp4", rate=30)]:
            writer.add(result)
    assert failures.number == 1
    assert [path.name for path in tmp_path.iterdir()] == ["good.mp4"]
    assert read_back(tmp_path / "good.mp4")[0] == 3


def refuse_first():
    """The first video that is closed cannot be read back."""
    closed = []

    def check(draft, path):
        closed.append(path)
        if len(closed) == 1:
            raise DataError(f"{path.name} cannot be written")

    return check


def test_nothing_to_draw_leaves_nothing(tmp_path):
    with open_annotations(tmp_path / "out.mp4"):
        pass
    assert not list(tmp_path.iterdir())


def test_files_that_are_there_are_left_alone(tmp_path):
    (tmp_path / "a.jpg").write_text("mine")
    (tmp_path / "out.mp4").write_text("mine")
    with (
        open_annotations(tmp_path) as annotations,
        pytest.raises(DataError, match=r"a\.jpg exists already; expected a new name"),
    ):
        annotations.add(photo("in/a.png"))
    with pytest.raises(DataError, match=r"out\.mp4 exists already"):
        Annotations(tmp_path / "out.mp4")
    with pytest.raises(DataError, match=r"a\.jpg is no folder"):
        Annotations(tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_text() == (tmp_path / "out.mp4").read_text() == "mine"


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path, monkeypatch):
    def fill(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill)
    with open_annotations(tmp_path) as annotations, pytest.raises(DataError, match="No space left on device"):
        annotations.add(photo())
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    class Refusing:
        def __init__(self, *arguments):
            pass

        fourcc = staticmethod(lambda *letters: 0)

        def isOpened(self):  # noqa: N802 (OpenCV's name)
            return False

    monkeypatch.setattr(cv2, "VideoWriter", Refusing)
    with open_annotations(tmp_path / "out.mp4") as annotations:
        *waiting, last = clip(WAITING)
        for result in waiting:
            annotations.add(result)
        with pytest.raises(DataError, match=r"out\.mp4 cannot be written"):
            annotations.add(last)
    assert not list(tmp_path.iterdir())


def test_a_video_on_a_full_disk_is_said_and_leaves_no_half_file(tmp_path, monkeypatch):
    """OpenCV says nothing when it cannot write, so what it wrote is opened again."""

    def draw() -> None:
        with open_annotations(tmp_path / "out.mp4") as annotations:
            for result in clip(WAITING):
                annotations.add(result)
            annotations.video.writer.release()
            annotations.video.draft.write_bytes(annotations.video.draft.read_bytes()[:48])

    with pytest.raises(DataError, match=r"out\.mp4 cannot be written, or not to its end; free space there"):
        draw()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frames", [1, WAITING])
def test_a_video_below_a_file_is_said(tmp_path, frames):
    (tmp_path / "good.png").write_bytes(b"mine")

    def draw() -> None:
        with open_annotations(tmp_path / "good.png" / "out.mp4") as annotations:
            for result in clip(frames):
                annotations.add(result)

    with pytest.raises(DataError, match=r"out\.mp4 cannot be written \("):
        draw()


def test_the_same_video_twice_becomes_two(tmp_path):
    with open_annotations(tmp_path) as annotations:
        for result in [*clip(3, rate=30), *clip(3, rate=30)]:
            annotations.add(result)
    assert [read_back(tmp_path / name)[0] for name in ("clip.mp4", "clip-2.mp4")] == [3, 3]


def test_light_colours_have_dark_text():
    assert [module.light(colour) for colour in ("#ffffff", "#000000", "#f0c000", "#0072b2")] == [
        True,
        False,
        True,
        False,
    ]
