"""Frames against pictures made here; and a table of everything bad that may be given for one."""

import io
import os
import socket
import struct
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mien.errors import DataError, RecipeError
from mien.inference import media
from mien.inference.faces import HaarDetector
from mien.inference.media import Missing, as_picture, list_sources, open_source, read_picture

DETECTOR = HaarDetector().for_video()
FUZZ = int(os.environ.get("MIEN_FUZZ", "300"))  # mutated files to try


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """RGB; red grows to the right, green downwards, so that any turn shows."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[..., 0] = np.linspace(0, 250, width)
    image[..., 1] = np.linspace(0, 250, height)[:, np.newaxis]
    return image


def encoded(image: np.ndarray, form: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, **options)
    return stream.getvalue()


def write_video(path: Path, frames: int = 12, *, size=(64, 48), rate: float = 10.0, codec: str = "MJPG") -> Path:
    """A video whose n-th frame has the brightness 15 n."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 15 * number, np.uint8))
    writer.release()
    return path


def stream_of(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def sources_of(*arguments: str, stdin: bytes = b"") -> list[str | Missing]:
    return list(list_sources(arguments, stdin=stream_of(stdin)))


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


PNG, JPEG, GIF = (encoded(gradient(), form) for form in ("PNG", "JPEG", "GIF"))

# What each bad file holds, and what the line about it must say. The name is part of what is bad.
BAD_FILES = {
    "empty.jpg": (b"", "is empty"),
    "empty.mp4": (b"", "is empty"),
    "text.jpg": (b"this is no picture at all", "is no picture"),
    "text.mp4": (b"this is no video at all, whatever it says", "cannot be opened"),
    "text.avi": (b"RIFF\x10\0\0\0AVI nothing else", "cannot be opened"),
    "one byte.png": (b"\x89", "is no picture"),
    "header alone.png": (PNG[:8], "is no picture"),
    "header alone.jpg": (JPEG[:4], "no picture|cannot be decoded"),
    "header alone.gif": (GIF[:6], "no picture|cannot be decoded"),
    "truncated.png": (PNG[: len(PNG) // 2], "cannot be decoded"),
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "truncated.gif": (GIF[: len(GIF) // 2], "cannot be decoded"),
    "truncated.webp": (encoded(gradient(), "WEBP")[:60], "no picture|cannot be decoded"),
    "truncated.bmp": (encoded(gradient(), "BMP")[:200], "cannot be decoded"),
    "truncated.tif": (encoded(gradient(), "TIFF")[:300], "no picture|cannot be decoded"),
    "garbled.png": (PNG[:45] + bytes(60) + PNG[105:], "cannot be decoded"),
    "bomb.png": (huge_png(20_000, 20_000), "too many pixels; expected at most 178,956,970"),
    "wide bomb.png": (huge_png(2_000_000_000, 2), "too many pixels"),
    "lesser bomb.png": (huge_png(14_000, 13_000), "too many pixels"),
    "nothing wide.png": (huge_png(0, 10), "no picture|cannot be decoded|0×10"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "HEIC picture.*save it as JPEG"),
    "disguised.jpg": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), "HEIC picture"),
    "short.heic": (b"\0\0\0\x18ftypheic", "HEIC picture"),
    "clip.mov": (b"\0\0\0\x18ftypqt  \0\0\0\0" + bytes(200), "cannot be opened"),
    "clip.mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(500), "cannot be opened"),
    "clip.webm": (b"\x1a\x45\xdf\xa3" + bytes(300), "cannot be opened|no frame"),
    "clip.mpg": (b"\0\0\1\xba" + bytes(300), "cannot be opened|no frame"),
    "clip.wmv": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(300), "cannot be opened|no frame"),
    "clip.ogv": (b"OggS\0\2" + bytes(300), "cannot be opened|no frame"),
    "page.pdf": (b"%PDF-1.7\n1 0 obj\n", "is no picture"),
    "archive.zip": (b"PK\3\4" + bytes(100), "is no picture"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
    "page.html": (b"<!doctype html><title>404</title>", "is no picture"),
    "numbers.npy": (b"\x93NUMPY\1\0" + bytes(100), "is no picture"),
    "zeros.jpg": (bytes(4096), "is no picture"),
    "ones.png": (b"\xff" * 4096, "no picture|cannot be decoded"),
    "broken.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no picture|cannot be decoded"),
    "line\nbreak.jpg": (b"no picture", r"line\\nbreak.jpg is no picture"),
    "smile 🙂.png": (PNG[:50], "smile 🙂.png"),
    "%03d.png": (b"no picture", "%03d.png is no picture"),
    "[1].jpg": (b"no picture", r"\[1\].jpg is no picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it_and_the_cause(name, tmp_path):
    content, cause = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){cause}") as caught:
        list(open_source(str(path), animated=True))
    assert media.shown(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def make_nothing(path: Path) -> None:
    pass


def make_silent_video(path: Path) -> None:
    """A video without frames."""
    write_video(path, 0)


def make_cut_video(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), codec="mp4v").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


BAD_THINGS = {
    "fifo.jpg": (make_fifo, "is a pipe, socket or device"),
    "folder.jpg": (make_folder, "is a folder"),
    "loop.jpg": (make_loop, "cannot be opened"),
    "dangling.jpg": (make_dangling, "No such file"),
    "absent.jpg": (make_nothing, "No such file"),
    "no frames.avi": (make_silent_video, "cannot be opened|no frame"),
    "cut.mp4": (make_cut_video, "cannot be opened"),
    "x" * 300 + ".jpg": (make_nothing, "cannot be opened"),
    "null\0byte.jpg": (make_nothing, "cannot be opened"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFOs, and links for administrators alone")
@pytest.mark.parametrize("name", BAD_THINGS)
def test_what_is_no_file_is_one_line_that_names_it_and_the_cause(name, tmp_path):
    make, cause = BAD_THINGS[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=cause) as caught:
        list(open_source(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


def test_devices_and_sockets_are_not_opened(tmp_path, monkeypatch):
    if not Path("/dev/zero").exists():
        pytest.skip("no devices here")
    with pytest.raises(DataError, match="/dev/zero is a pipe, socket or device"):
        list(open_source("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
        server.bind("s.jpg")
        with pytest.raises(DataError, match=r"s\.jpg is a pipe, socket or device"):
            list(open_source("s.jpg"))


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.jpg"
    path.write_bytes(JPEG)
    path.chmod(0)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)  # a superuser may read anything
    with pytest.raises(DataError, match=r"secret\.jpg cannot be opened \(Permission denied\)"):
        list(open_source(str(path)))


def test_an_absent_webcam_is_named():
    with pytest.raises(DataError, match="webcam 99 cannot be opened; expected a webcam that is free"):
        list(open_source("99"))


@pytest.mark.parametrize("every", [0, -1])
def test_every_is_at_least_one(every):
    with pytest.raises(RecipeError, match="expected 1"):
        list(open_source("x.jpg", every=every))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_a_picture_is_read_as_it_was_written(form, tmp_path):
    path = tmp_path / f"picture.{form.lower()}"
    path.write_bytes(encoded(gradient(), form))
    (frame,) = open_source(str(path))
    assert (frame.source, frame.index, frame.seconds) == (str(path), 0, None)
    assert np.array_equal(frame.image, gradient())


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_a_lossy_picture_is_read_nearly_as_it_was_written(form, tmp_path):
    path = tmp_path / "picture"  # what a file holds counts, not its name
    path.write_bytes(encoded(gradient(), form, quality=95))
    assert np.abs(read_picture(path).astype(int) - gradient()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation, tmp_path):
    """EXIF says by which turn and flip the stored picture came to be: it is undone."""
    upright = gradient()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(np.ascontiguousarray(stored), "PNG", exif=exif))
    assert np.array_equal(read_picture(path), upright)


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    content = encoded(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    (tmp_path / "photo.jpg").write_bytes(content)
    assert read_picture(tmp_path / "photo.jpg").shape == (40, 60, 3)


grey = gradient()[..., 0]


def sixteen_bits() -> Image.Image:
    return Image.fromarray(grey.astype(np.uint16) * 257)


MODES = {
    "1": (Image.fromarray(grey).convert("1", dither=Image.Dither.NONE), np.where(grey >= 128, 255, 0)),
    "L": (Image.fromarray(grey), grey),
    "16 bits": (sixteen_bits(), grey),
    "P": (Image.fromarray(grey).convert("P"), grey),
    "F": (Image.fromarray(grey.astype(np.float32) / 255), grey),
    "I": (Image.fromarray(grey.astype(np.int32)), grey),
    "RGBA, half seen": (
        Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.new("L", (60, 40), 51)]),
        np.rint(grey * 0.2 + 255 * 0.8),
    ),
    "LA, not seen": (Image.merge("LA", [Image.fromarray(grey), Image.new("L", (60, 40), 0)]), np.full((40, 60), 255)),
    "CMYK": (Image.merge("CMYK", [Image.new("L", (60, 40), 0)] * 3 + [Image.fromarray(255 - grey)]), grey),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_picture_becomes_rgb(mode, tmp_path):
    image, expected = MODES[mode]
    form = "TIFF" if mode in ("CMYK", "F", "I") else "PNG"
    image.save(tmp_path / "picture", form)
    picture = read_picture(tmp_path / "picture")
    assert picture.dtype == np.uint8
    assert np.abs(picture - np.asarray(expected, float)[..., np.newaxis]).max() <= 1


def test_a_palette_with_a_transparent_colour_is_set_on_white(tmp_path):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.paste(0, (0, 0, 4, 1))
    image.save(tmp_path / "picture.png", transparency=0)
    assert read_picture(tmp_path / "picture.png").tolist() == [[[255, 255, 255]] * 4, [[10, 20, 30]] * 4]


def test_a_gif_gives_its_first_picture_or_each(tmp_path):
    path = tmp_path / "moving.gif"
    pictures = [Image.new("L", (20, 10), level) for level in (10, 90, 170, 250)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[100, 200, 300, 400])
    (first,) = open_source(str(path))
    assert (first.seconds, first.image.mean()) == (None, 10)
    frames = list(open_source(str(path), animated=True))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.6])
    assert [frame.image.mean() for frame in frames] == [10, 90, 170, 250]
    assert [frame.image.mean() for frame in open_source(str(path), animated=True, every=3)] == [10, 250]


@pytest.mark.parametrize("options", [{}, {"duration": 0}])
def test_an_animation_that_does_not_say_how_long_shows_each_a_tenth_of_a_second(tmp_path, options):
    pictures = [Image.new("L", (20, 10), level) for level in (10, 90, 170)]
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], **options)
    frames = open_source(str(tmp_path / "moving.gif"), animated=True)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "moving.webp"])
def test_pictures_passed_over_take_their_time(tmp_path, name):
    pictures = [Image.new("RGB", (20, 10), (level, 0, 0)) for level in (10, 90, 170, 250, 30)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=[100, 900, 100, 900, 100])
    frames = open_source(str(tmp_path / name), animated=True, every=2)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 1, 2])


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v")])
def test_a_video_gives_its_frames_in_time(name, codec, tmp_path):
    path = write_video(tmp_path / name, codec=codec)
    frames = list(open_source(str(path)))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in range(12)], abs=0.011)
    assert [frame.image.mean() for frame in frames] == pytest.approx([15 * number for number in range(12)], abs=5)
    some = list(open_source(str(path), every=5))
    assert [frame.index for frame in some] == [0, 5, 10]
    assert [frame.seconds for frame in some] == pytest.approx([0, 0.5, 1.0], abs=0.011)
    assert [frame.image.mean() for frame in some] == pytest.approx([0, 75, 150], abs=5)


def test_a_video_is_known_by_what_it_holds(tmp_path):
    path = write_video(tmp_path / "clip.avi").rename(tmp_path / "photo.jpg")
    assert len(list(open_source(str(path)))) == 12
    (tmp_path / "clip.mp4").write_bytes(PNG)
    assert len(list(open_source(str(tmp_path / "clip.mp4")))) == 1


def test_colours_of_a_video_are_red_green_blue(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))  # OpenCV's blue, green, red
    writer.release()
    (frame,) = open_source(str(tmp_path / "red.avi"))
    assert np.abs(frame.image.mean(axis=(0, 1)) - (255, 0, 0)).max() < 6


def test_a_webcam_gives_frames_in_time(monkeypatch):
    class Webcam:
        def __init__(self, address, backend):
            assert address == 0
            self.left = 3

        def isOpened(self):  # noqa: N802 (OpenCV's name)
            return True

        def get(self, what):
            return 0.0

        def grab(self):
            self.left -= 1
            return self.left >= 0

        def retrieve(self):
            return True, np.full((4, 6, 3), self.left, np.uint8)

        def release(self):
            self.left = -1

    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    frames = list(open_source("0"))
    assert [(frame.source, frame.index, frame.image[0, 0, 0]) for frame in frames] == [
        ("webcam 0", 0, 2),
        ("webcam 0", 1, 1),
        ("webcam 0", 2, 0),
    ]
    assert 0 <= frames[0].seconds <= frames[1].seconds <= frames[2].seconds


def test_a_file_named_by_a_number_is_no_webcam(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("7").write_bytes(PNG)
    assert [frame.source for frame in open_source("7")] == ["7"]


def test_a_folder_gives_its_photos_and_videos_in_order(tmp_path):
    for name in ("im10.png", "im2.PNG", "im1.jpg", "notes.txt", ".hidden.png", "sub/b.mp4", "sub/a.webp", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "back").symlink_to(tmp_path)
    expected = [f"{tmp_path}/{name}" for name in ("im1.jpg", "im2.PNG", "im10.png", "sub/a.webp", "sub/b.mp4")]
    assert sources_of(str(tmp_path)) == expected


def test_a_glob_gives_what_it_matches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a1.png", "a10.png", "a2.png", "b.png", "[x].png", "deep/er/a3.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert sources_of("a*.png") == ["a1.png", "a2.png", "a10.png"]
    assert sources_of("**/a3.png") == ["deep/er/a3.png"]
    assert sources_of("[x].png") == ["[x].png"]
    assert sources_of("de*") == ["deep/er/a3.png"]


def test_a_pattern_that_matches_a_folder_and_its_files_gives_each_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("faces/a.png", "faces/more/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(PNG)
    assert sorted(sources_of("faces/**")) == ["faces/a.png", "faces/more/b.png"]


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch):
    class Failing(io.BytesIO):
        def read(self, *arguments):
            raise OSError(5, "Input/output error")

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    monkeypatch.setattr("builtins.open", lambda *arguments: Failing())
    with pytest.raises(DataError, match=r"a\.png cannot be opened \(Input/output error\)"):
        next(open_source(str(path)))


def test_a_duration_that_is_a_text_is_none(tmp_path):
    comment = PngInfo()
    comment.add_text("duration", "5 s")
    Image.fromarray(gradient()).save(tmp_path / "a.png", pnginfo=comment)
    (frame,) = open_source(str(tmp_path / "a.png"), animated=True)
    assert frame.seconds is None


def test_a_cut_video_gives_what_is_there_and_is_said(tmp_path):
    whole = write_video(tmp_path / "whole.avi", 16)
    path = tmp_path / "cut.avi"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    frames = []
    with pytest.raises(DataError, match=r"cut\.avi ends after \d+ of 16 frames; expected a whole video"):
        frames.extend(open_source(str(path)))
    assert len(frames) < 16


def test_paths_that_begin_like_a_bitmap_are_paths():
    assert sources_of("-", stdin=b"BMW/1.jpg\nBMW/2.jpg\n") == ["BMW/1.jpg", "BMW/2.jpg"]


def test_what_leads_nowhere_is_said_and_the_others_go_on(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "empty").mkdir()
    empty, nothing, last = sources_of(f"{tmp_path}/empty", f"{tmp_path}/*.gif", f"{tmp_path}/a.png")
    assert isinstance(empty, Missing)
    assert empty.source == f"{tmp_path}/empty"
    assert "holds no photo or video" in empty.error
    assert isinstance(nothing, Missing)
    assert "matches nothing" in nothing.error
    assert last == f"{tmp_path}/a.png"


def test_standard_input_gives_a_path_a_line(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").touch()
    odd = f"{tmp_path}/line\nbreak.png"
    lines = ["a.png", "", "  b with spaces.png ", '{"path": "c.png", "id": 4}', '"d.png"', f"{tmp_path}/in", "é.png\r"]
    lines += [f'{{"path": "{tmp_path}/line\\nbreak.png"}}']
    expected = ["a.png", "  b with spaces.png ", "c.png", "d.png", f"{tmp_path}/in/x.png", "é.png", odd]
    assert sources_of("-", stdin="\n".join(lines).encode()) == expected


@pytest.mark.parametrize(
    "line", ['{"file": "a.png"}', '{"path": 3}', '{"path"', "-", '""', "{}", "a\0b", '"' + "[" * 9000]
)
def test_a_bad_line_is_numbered_and_the_others_go_on(line):
    first, bad, last = sources_of("-", stdin=f"a.png\n{line}\nb.png".encode())
    assert (first, last) == ("a.png", "b.png")
    assert isinstance(bad, Missing)
    assert "standard input, line 2 is" in bad.error
    assert len(bad.error) < 250


def test_undecodable_names_lead_to_their_files(tmp_path):
    name = os.fsencode(str(tmp_path)) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (source,) = sources_of("-", stdin=name)
    assert len(list(open_source(source))) == 1


@pytest.mark.parametrize(
    "content", [PNG, JPEG, GIF, encoded(gradient(), "WEBP"), encoded(gradient(), "BMP"), encoded(gradient(), "PPM")]
)
def test_standard_input_may_be_a_picture(content):
    stdin = stream_of(content)
    assert list(list_sources(["-"], stdin=stdin)) == ["-"]
    (frame,) = open_source("-", stdin=stdin)
    assert frame.source == "standard input"
    assert frame.image.shape == (40, 60, 3)


def test_a_bad_picture_on_standard_input_is_said():
    for content, cause in (
        (PNG[:60], "cannot be decoded"),
        (b"\x1a\x45\xdf\xa3 more", "is a video"),
        (b"", "holds 0 bytes"),
    ):
        with pytest.raises(DataError, match=f"standard input {cause}"):
            list(open_source("-", stdin=stream_of(content)))


def test_closed_standard_input_is_said(monkeypatch):
    closed = stream_of(b"a.png")
    closed.close()
    monkeypatch.setattr(sys, "stdin", None)
    for stdin in (closed, None):
        (missing,) = list_sources(["-"], stdin=stdin)
        assert isinstance(missing, Missing)
        assert "standard input is closed" in missing.error


def test_lines_are_read_as_they_come():
    """A path is given before the next line is there: `-` may be a pipe that someone types into."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stdin, os.fdopen(writing, "wb", buffering=0) as pipe:
        sources = list_sources(["-"], stdin=stdin)
        pipe.write(b"first.png\n")
        assert next(sources) == "first.png"
        pipe.write(b"second.png\n")
        assert next(sources) == "second.png"


@pytest.mark.parametrize(
    "image",
    [None, "x", [[1]], np.zeros((4, 4, 3)), np.zeros((4, 4, 3), bool), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)  # fmt: skip
def test_an_array_that_is_no_picture_is_refused(image):
    with pytest.raises(DataError, match="expected"):
        as_picture(image)


def test_arrays_become_pictures():
    assert np.array_equal(as_picture(gradient()), gradient())
    for image in (grey, grey[..., np.newaxis]):
        assert np.array_equal(as_picture(image), np.repeat(grey[..., np.newaxis], 3, axis=2))


SEEDS = [PNG, JPEG, GIF, encoded(gradient(), "WEBP"), encoded(gradient(), "TIFF", compression="tiff_lzw"), encoded(gradient(), "BMP"), encoded(gradient(), "PPM"), encoded(gradient(), "TGA"), encoded(grey, "JPEG2000"), encoded(gradient(), "ICO", sizes=[(32, 32)]), encoded(gradient(), "PNG", exif=Image.Exif())]  # fmt: skip


@st.composite
def mutated(draw) -> bytes:
    """A sound picture with some bytes overwritten, cut out, doubled or cut off; or no picture from the first."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        piece = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"])))
        match draw(st.sampled_from(["write", "insert", "cut", "end", "double"])):
            case "write":
                content[at : at + len(piece)] = piece
            case "insert":
                content[at:at] = piece
            case "cut":
                del content[at : at + draw(st.integers(1, 64))]
            case "end":
                del content[at:]
            case "double":
                content += content[:at]
    return bytes(content)


@settings(max_examples=FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=mutated())
def test_no_file_whatever_crashes_or_hangs_the_reader(content, tmp_path_factory, classifier):
    """Mutated pictures are read, or refused by one line: no other error, and not a warning."""
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content or b"\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frames = list(open_source(str(path), animated=True, every=3))
            classifier.read(path, detector=DETECTOR)
        except DataError as error:
            frames = []
            lines = str(error).splitlines()
            assert len(lines) == 1
    assert all(frame.image.dtype == np.uint8 and frame.image.ndim == 3 for frame in frames)
