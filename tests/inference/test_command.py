"""`mien predict` as a person types it: what it prints, its exit codes, and a table of bad input."""

import csv
import io
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.cli import main, read_astronaut
from mien.inference.media import shown

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # as mien sets it; FFmpeg asks once, and `clip` comes first here
LIGHT = ("keras", "tensorflow", "jax", "torch", "sklearn", "scipy", "matplotlib", "jinja2", "kagglehub")


@pytest.fixture
def predict(model_path, tmp_path, monkeypatch, capfd):
    """Run `mien predict` on the tiny model in a folder of its own: exit code, what was printed, what was said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin: bytes = b"", model: str | None = None) -> tuple[int, str, str]:
        words = [*arguments, "--model", model or str(model_path)]
        monkeypatch.setattr(sys, "argv", ["mien", "predict", *words])
        (tmp_path / ".stdin").write_bytes(stdin)
        with (tmp_path / ".stdin").open() as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            with pytest.raises(SystemExit) as ended:
                main()
        printed = capfd.readouterr()  # what decoders write themselves too
        return ended.value.code or 0, printed.out, printed.err

    return run


def start(model_path: Path, *arguments: str, cwd: Path, **pipes) -> subprocess.Popen:
    command = [sys.executable, "-m", "mien.cli", "predict", *arguments, "--model", str(model_path)]
    return subprocess.Popen(
        command, cwd=cwd, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    )


def face(level: int = 120) -> Image.Image:
    return Image.new("L", (48, 48), level)


def clip(path: str, frames: int = 5, size: tuple[int, int] = (64, 48), codec: str = "MJPG") -> None:
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*codec), 10, size)
    for level in range(frames):
        writer.write(np.full((size[1], size[0], 3), 40 * level % 256, np.uint8))
    writer.release()


def huge_png(side: int) -> bytes:
    """A PNG whose header promises side × side pixels, and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def encoded(form: str, size: tuple[int, int] = (48, 48)) -> bytes:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    file = io.BytesIO()
    noise.save(file, form)
    return file.getvalue()


# What is printed


def test_a_face_in_a_photo_is_found_and_named(predict, astronaut):
    Image.fromarray(astronaut).save("astronaut.png")
    code, out, err = predict("astronaut.png")
    header, row = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split() == ["expression", "sure", "x,y", "width", "x", "height", "time", "who", "source"]
    expression, sure, corner, size, source = row.split()
    assert expression in {"angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"}
    assert 0 < int(sure.rstrip("%")) <= 100
    x, y = map(int, corner.split(","))
    assert abs(x - 175) < 15
    assert abs(y - 65) < 15
    assert size == "98x98"
    assert source == "astronaut.png"


def test_no_face_is_data_and_not_a_failure(predict):
    Image.new("RGB", (200, 100)).save("black.png")
    code, out, err = predict("black.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split() == ["no", "face", "black.png"]
    assert json.loads(predict("black.png", "--jsonl")[1])["faces"] == []


def test_the_three_forms_say_the_same(predict):
    face().save("a.png")
    clip("b.avi")
    words = ("a.png", "b.avi", "absent.png", "--detector", "none", "--every", "2")
    code, document, err = predict(*words, "--json")
    results = json.loads(document)["results"]
    assert code == 3
    assert err == f"error: {results[-1]['error']}\n"
    assert [json.loads(line) for line in predict(*words, "--jsonl")[1].splitlines()] == results
    rows = list(csv.DictReader(io.StringIO(predict(*words, "--csv")[1])))
    assert [row["source"] for row in rows] == ["a.png", "b.avi", "b.avi", "b.avi", "absent.png"]
    assert [row["frame"] for row in rows] == ["0", "0", "2", "4", ""]
    assert [row["person"] for row in rows] == ["", "1", "1", "1", ""]
    for row, result in zip(rows[:4], results, strict=False):
        assert float(row["happy"]) == result["faces"][0]["probabilities"]["happy"]
        assert row["emotion"] == result["faces"][0]["emotion"]


def test_a_table_of_a_video_has_time_and_persons(predict):
    clip("b.avi")
    _, out, _ = predict("b.avi", "--detector", "none", "--min-confidence", "1")
    expression, *_, seconds, unit, who, source = out.splitlines()[3].split()
    assert expression.endswith("?")
    assert (seconds, unit, who, source) == ("0.20", "s", "#1", "b.avi")


def test_following_can_be_switched_off(predict):
    clip("b.avi")
    results = [
        json.loads(line) for line in predict("b.avi", "--detector=none", "--no-smooth", "--jsonl")[1].splitlines()
    ]
    assert [face["person"] for result in results for face in result["faces"]] == [None] * 5


def test_options_reach_the_model(predict):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)).save("a.png")

    def read(*words):
        (face,) = json.loads(predict("a.png", "--detector", "none", "--jsonl", *words)[1])["faces"]
        return face

    plain = read()
    assert read("--operating-point", "balanced")["probabilities"] != plain["probabilities"]
    assert (plain["uncertain"], read("--min-confidence", "1")["uncertain"]) == (False, True)
    assert read("--threads", "1", "--provider", "CPUExecutionProvider") == plain


def test_an_animation_is_read_whole_on_request(predict):
    face(10).save("a.gif", save_all=True, append_images=[face(100), face(200)])
    words = ("a.gif", "--detector", "none", "--jsonl")
    assert [len(predict(*words, *more)[1].splitlines()) for more in ([], ["--animated"])] == [1, 3]


def seconds_of(path: str) -> float:
    video = cv2.VideoCapture(path)
    return video.get(cv2.CAP_PROP_FRAME_COUNT) / video.get(cv2.CAP_PROP_FPS)


def test_photos_and_videos_are_drawn_into_a_folder(predict):
    face().save("a.png")
    clip("b.avi", size=(160, 120))
    code, _, err = predict("a.png", "b.avi", "--detector", "none", "--annotate", "drawn")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["a.jpg", "b.mp4"]
    assert seconds_of("drawn/b.mp4") == pytest.approx(5 / 10)


def test_all_frames_are_drawn_into_one_video(predict):
    clip("b.avi", size=(160, 120))
    assert predict("b.avi", "b.avi", "--detector", "none", "--annotate", "out.mp4")[0] == 0
    assert seconds_of("out.mp4") == pytest.approx(10 / 10)


def test_the_timeline_of_a_video_is_written(predict):
    clip("b.avi")
    assert predict("b.avi", "--detector", "none", "--timeline", "new/t.jsonl")[0] == 0
    spans = [json.loads(line) for line in Path("new/t.jsonl").read_text().splitlines()]
    assert sum(span["frames"] for span in spans) == 5
    assert {span["person"] for span in spans} == {1}


def test_the_timeline_of_a_video_is_drawn(predict):
    clip("a<b.avi", 30)
    assert predict("a<b.avi", "--detector", "none", "--timeline", "t.jsonl")[0] == 0
    assert predict("a<b.avi", "--detector", "none", "--timeline", "t.svg")[0] == 0
    spans = [json.loads(line) for line in Path("t.jsonl").read_text().splitlines()]
    svg = "{http://www.w3.org/2000/svg}"
    bars = list(ElementTree.parse("t.svg").iter(f"{svg}rect"))
    said = [bar.find(f"{svg}title").text.split(",")[0] for bar in bars]
    assert sorted(said) == sorted(span["emotion"] for span in spans)
    for bar, span in zip(bars, spans, strict=True):
        assert float(bar.get("x")) == pytest.approx(220 + 760 * span["start"] / 2.9, abs=0.1)
    assert "a<b.avi #1" in [text.text for text in ElementTree.parse("t.svg").iter(f"{svg}text")]


# Bad input: every other source is read, what went wrong is one line that names the source, and the exit code says so.


def write(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def in_folder(name: str, content: bytes | None) -> str:
    Path("folder").mkdir()
    return write(f"folder/{name}", content) and "folder" if content is not None else "folder"


def fifo(name: str) -> str:
    os.mkfifo(name)
    return name


def bound_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(name)
    return name


def link(name: str, target: str) -> str:
    Path(name).symlink_to(target)
    return name


def forbidden(name: str, *, folder: bool) -> str:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    Path(name).mkdir() if folder else Path(name).write_bytes(encoded("PNG"))
    Path(name).chmod(0)
    return name


def cut_clip(name: str, *, keep: float, frames: int = 5) -> str:
    clip("whole.avi", frames)
    content = Path("whole.avi").read_bytes()
    return write(name, content[: int(len(content) * keep)])


def odd_codec(name: str) -> str:
    clip("whole.avi")
    return write(name, Path("whole.avi").read_bytes().replace(b"MJPG", b"QZ9X"))


BAD = {
    "absent": (lambda: "absent.jpg", "absent.jpg cannot be opened (No such file or directory)"),
    "no bytes": (lambda: write("a.jpg", b""), "a.jpg is empty"),
    "no bytes, video": (lambda: write("a.mp4", b""), "a.mp4 is empty"),
    "text": (lambda: write("a.jpg", b"hello\n"), "a.jpg is no picture"),
    "html": (lambda: write("a.png", b"<!DOCTYPE html><p>404"), "a.png is no picture"),
    "svg": (lambda: write("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "a.svg is no picture"),
    "pdf": (lambda: write("a.pdf", b"%PDF-1.7\n%\xe2\xe3\n"), "a.pdf is no picture"),
    "zeros": (lambda: write("a.bmp", bytes(1000)), "a.bmp is no picture"),
    "cut JPEG": (lambda: write("a.jpg", encoded("JPEG")[:400]), "a.jpg cannot be decoded"),
    "cut PNG": (lambda: write("a.png", encoded("PNG")[:400]), "a.png cannot be decoded"),
    "cut WebP": (lambda: write("a.webp", encoded("WEBP")[:200]), "a.webp"),
    "cut GIF": (lambda: write("a.gif", encoded("GIF")[:800]), "a.gif cannot be decoded"),
    "cut TIFF": (lambda: write("a.tif", encoded("TIFF")[:300]), "a.tif"),
    "JPEG header alone": (lambda: write("a.jpg", encoded("JPEG")[:20]), "a.jpg"),
    "PNG signature alone": (lambda: write("a.png", b"\x89PNG\r\n\x1a\n"), "a.png"),
    "bomb": (lambda: write("a.png", huge_png(20_000)), "a.png has too many pixels"),
    "larger than any": (lambda: write("a.png", huge_png(2**31 - 1)), "a.png"),
    "no pixels": (lambda: write("a.png", huge_png(0)), "a.png"),
    "HEIC": (lambda: write("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "a.heic is a HEIC picture"),
    "HEIC named JPEG": (lambda: write("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "a.jpg is a HEIC picture"),
    "pipe": (lambda: fifo("a.jpg"), "a.jpg is a pipe, socket or device"),
    "socket": (lambda: bound_socket("a.jpg"), "a.jpg is a pipe, socket or device"),
    "device": (lambda: "/dev/zero", "/dev/zero is a pipe, socket or device"),
    "link to nothing": (lambda: link("a.jpg", "gone.jpg"), "a.jpg cannot be opened (No such file"),
    "links in a circle": (lambda: link("a.jpg", "a.jpg"), "a.jpg cannot be opened (Too many levels"),
    "unreadable": (lambda: forbidden("a.png", folder=False), "a.png cannot be opened (Permission denied)"),
    "unreadable folder": (lambda: forbidden("a", folder=True), "a cannot be listed (Permission denied)"),
    "empty folder": (lambda: in_folder("", None), "folder holds no photo or video"),
    "folder of texts": (lambda: in_folder("a.txt", b"hello"), "folder holds no photo or video"),
    "bad file in a folder": (lambda: in_folder("a.png", b"hello"), "folder/a.png is no picture"),
    "pattern": (lambda: "*.webp", "*.webp matches nothing"),
    "long name": (lambda: "a" * 300 + ".jpg", "(File name too long)"),
    "path through a file": (lambda: "good.png/a.jpg", "good.png/a.jpg cannot be opened (Not a directory)"),
    "empty name": (lambda: "", "cannot be opened (No such file or directory)"),
    "line feed": (lambda: write("a\nb.jpg", b"hello"), r"a\nb.jpg is no picture"),
    "escape": (lambda: write("a\x1b[31mb.jpg", b"hello"), r"a\x1b[31mb.jpg is no picture"),
    "emoji": (lambda: write("😀.jpg", b"hello"), "😀.jpg is no picture"),
    "markup": (lambda: write("[red]:smile:.jpg", b"hello"), "[red]:smile:.jpg is no picture"),
    "no text": (lambda: write(os.fsdecode(b"\xff.jpg"), b"hello"), r"\udcff.jpg is no picture"),
    "text named video": (lambda: write("a.mp4", b"hello" * 99), "a.mp4 cannot be opened; expected a webcam"),
    "video header alone": (lambda: cut_clip("a.avi", keep=0.02), "a.avi"),
    "video without frames": (lambda: cut_clip("a.avi", keep=1, frames=0), "a.avi"),
    "HEIF in a folder": (
        lambda: in_folder("a.heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        "folder/a.heif is a HEIC picture",
    ),
    "odd codec": (lambda: odd_codec("a.avi"), "a.avi"),
    "MP4 without an index": (lambda: write("a.mp4", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08mdat"), "a.mp4"),
    "webcam": (lambda: "97", "webcam 97 cannot be opened"),
}


@pytest.mark.parametrize(("make", "answer"), BAD.values(), ids=BAD)
def test_a_bad_source_is_one_line_and_the_others_go_on(predict, make, answer):
    face().save("good.png")
    source = make()
    code, out, err = predict(source, "good.png", "--detector", "none", "--jsonl")
    failed, good = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert (good["source"], len(good["faces"]), good["error"]) == ("good.png", 1, None)
    assert (failed["faces"], failed["frame"], failed["width"]) == ([], None, None)
    assert shown(failed["source"]) in failed["error"]
    assert answer in failed["error"]
    assert "; " in failed["error"]  # what was expected
    assert err == f"error: {failed['error']}\n"


def test_a_cut_video_is_read_as_far_as_it_goes_and_has_failed(predict):
    face().save("good.png")
    cut_clip("a.avi", keep=0.6, frames=60)
    code, out, err = predict("a.avi", "good.png", "--detector", "none", "--jsonl")
    *read, failed, good = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert 10 < len(read) < 60
    assert all(len(result["faces"]) == 1 for result in [*read, good])
    assert failed["error"] == f"a.avi ends after {len(read)} of 60 frames; expected a whole video"
    assert err == f"error: {failed['error']}\n"


def cmyk() -> None:
    Image.new("CMYK", (48, 48), (10, 200, 30, 0)).save("a.jpg")


def palette() -> None:
    face().convert("P").save("a.png", transparency=0)


def sixteen_bits() -> None:
    Image.fromarray(np.full((48, 48), 40_000, np.uint16)).save("a.png")


def damaged_exif() -> None:
    face().save("a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")


ODD = {
    "1×1": lambda: Image.new("L", (1, 1)).save("a.png"),
    "1×4000": lambda: Image.new("L", (1, 4000)).save("a.png"),
    "1 bit": lambda: Image.new("1", (48, 48)).save("a.png"),
    "palette": palette,
    "alpha": lambda: Image.new("RGBA", (48, 48), (9, 9, 9, 100)).save("a.png"),
    "16 bits": sixteen_bits,
    "CMYK": cmyk,
    "animated": lambda: face(1).save("a.gif", save_all=True, append_images=[face(99)]),
    "WebP": lambda: face().save("a.webp"),
    "TIFF": lambda: face().save("a.tif"),
    "damaged EXIF": damaged_exif,
    "PNG named JPEG": lambda: write("a.jpg", encoded("PNG")),
    "JPEG without a suffix": lambda: write("a", encoded("JPEG")),
    "photo named video": lambda: write("a.mp4", encoded("JPEG")),
    "video named photo": lambda: Path("a.avi").rename("a.jpg") if clip("a.avi", 1) is None else None,
    "a file called 0": lambda: write("0", encoded("PNG")),
    "a file called --x": lambda: write("--x", encoded("PNG")),
    "a file called [a].png": lambda: write("[a].png", encoded("PNG")),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_an_odd_picture_is_read(predict, make):
    make()
    (path,) = (path for path in Path().iterdir() if path.name != ".stdin")
    code, out, err = predict(path.name, "--detector", "none", "--jsonl")
    results = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert results
    assert all(len(result["faces"]) == 1 for result in results)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"absent.jpg\n", "absent.jpg cannot be opened"),
        (b'{"path": 3}\n', "standard input, line 1 is '{\"path\": 3}'"),
        (b'{"file": "good.png"}\n', "expected a path, or JSON with one"),
        (b"-\n", "standard input, line 1 is '-'"),
        (b"good.png\0\n", "standard input, line 1"),
        (encoded("PNG")[:300], "standard input cannot be decoded"),
        (b"\x1a\x45\xdf\xa3" + bytes(99), "standard input is a video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "standard input is a HEIC picture"),
    ],
)
def test_bad_standard_input_is_one_line(predict, content, answer):
    face().save("good.png")
    code, out, err = predict("-", "good.png", "--detector", "none", "--jsonl", stdin=content)
    failed, good = [json.loads(line) for line in out.splitlines()]
    assert (code, good["error"], failed["faces"]) == (3, None, [])
    assert answer in failed["error"]
    assert err == f"error: {failed['error']}\n"


def test_paths_and_pictures_come_on_standard_input(predict):
    face().save("a b.png")
    words = ("-", "--detector", "none", "--jsonl")
    sources = [
        json.loads(line)["source"] for line in predict(*words, stdin=b'a b.png\n{"path": "a b.png"}\n')[1].splitlines()
    ]
    assert sources == ["a b.png", "a b.png"]
    code, out, _ = predict(*words, stdin=encoded("PNG"))
    assert (code, json.loads(out)["source"]) == (0, "standard input")
    assert predict(*words, stdin=b"")[:2] == (0, "")


def test_closed_standard_input_is_one_line(model_path, tmp_path):
    command = f"exec '{sys.executable}' -m mien.cli predict - --model '{model_path}' --jsonl <&-"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 3
    assert done.stderr.startswith("error: standard input is closed; expected paths")
    assert done.stderr.count("\n") == 1


def test_decoders_do_not_speak_for_themselves(model_path, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"hello" * 99)
    (tmp_path / "a.avi").write_bytes(b"RIFF\x10\0\0\0AVI " + bytes(99))
    with start(model_path, "a.mp4", "a.avi", cwd=tmp_path) as child:
        said = child.stderr.read()
    assert [line.split(";")[0] for line in said.splitlines()] == [
        "error: a.mp4 cannot be opened",
        "error: a.avi cannot be opened",
    ]


WRONG = {
    "no source": ([], "no source came; expected files"),
    "unknown option": (["good.png", "--anotate", "x"], "there is no option --anotate"),
    "two forms": (["good.png", "--json", "--csv"], "--json and --csv came; expected one of them"),
    "detector": (["good.png", "--detector", "mtcnn"], "detector is 'mtcnn'; expected haar, none or yunet=FILE"),
    "yunet without a file": (["good.png", "--detector", "yunet"], "yunet has no model file"),
    "yunet that is none": (["good.png", "--detector", "yunet=good.png"], "good.png cannot be used as YuNet"),
    "every": (["good.png", "--every", "0"], "every is 0; expected 1"),
    "confidence": (["good.png", "--min-confidence", "2"], "minimum confidence is 2.0; expected 0..1"),
    "smallest face": (["good.png", "--smallest-face", "3"], "smallest face is 3 pixels; expected 24 or more"),
    "priors": (["good.png", "--priors", "happy"], "expected class=share of every class"),
    "priors of one class": (["good.png", "--priors", "happy=1"], "expected each of angry, disgusted"),
    "threads": (["good.png", "--threads", "0"], "threads are 0; expected 1 or more"),
    "provider": (["good.png", "--provider", "Toaster"], "provider is Toaster; expected one of"),
    "video that exists": (["good.png", "--annotate", "out.mp4"], "out.mp4 exists already"),
    "folder that is a file": (["good.png", "--annotate", "good.png"], "good.png is no folder"),
    "timeline that exists": (["good.png", "--timeline", "out.mp4"], "out.mp4 cannot be written (File exists)"),
    "timeline of nobody": (["good.png", "--timeline", "t", "--no-smooth"], "--timeline and --no-smooth came"),
    "timeline below a file": (["good.png", "--timeline", "good.png/t"], "good.png/t cannot be written"),
}


@pytest.mark.parametrize(("words", "answer"), WRONG.values(), ids=WRONG)
def test_a_wrong_option_is_one_line_and_nothing_is_read(predict, words, answer):
    face().save("good.png")
    write("out.mp4", b"mine")
    code, out, err = predict(*words)
    assert code == 1
    assert answer in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert Path("out.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("absent.onnx", "absent.onnx cannot be read (No such file or directory); expected an ONNX file"),
        ("good.png", "good.png is no ONNX file that runs here"),
        ("happiest", "happiest is no model of mien's"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line(predict, model, answer):
    face().save("good.png")
    code, out, err = predict("good.png", model=model)
    assert (code, out) == (1, "")
    assert answer in err
    assert err.count("\n") == 1


def test_what_cannot_be_drawn_is_a_failure_and_the_others_go_on(predict):
    face().save("a.png")
    face().save("c.png")
    clip("b.avi", size=(160, 120))
    Path("drawn").mkdir()
    write("drawn/a.jpg", b"mine")
    write("drawn/b.mp4", b"mine")
    code, out, err = predict("a.png", "b.avi", "c.png", "--detector", "none", "--annotate", "drawn", "--jsonl")
    assert code == 3
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "error: drawn/a.jpg exists already",
        "error: drawn/b.mp4 exists already",
    ]
    assert len(out.splitlines()) == 7
    assert Path("drawn/a.jpg").read_bytes() == Path("drawn/b.mp4").read_bytes() == b"mine"
    assert Path("drawn/c.jpg").exists()


# How it ends


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_a_full_disk_is_one_line(model_path, tmp_path, form):
    face().save(tmp_path / "a.png")
    with open("/dev/full", "w") as full, start(model_path, "a.png", form, cwd=tmp_path, stdout=full) as child:  # noqa: PTH123
        said = child.communicate(timeout=240)[1]
    assert child.returncode == 1
    assert said == "error: standard output cannot be written (No space left on device); free space there\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_timeline_on_a_full_disk_is_one_line(predict):
    clip("b.avi")
    link("t.jsonl", "/dev/full")
    code, _, err = predict("b.avi", "--detector", "none", "--timeline", "t.jsonl")
    assert code == 1
    assert err.startswith("error: t.jsonl cannot be written")
    assert err.count("\n") == 1


def test_a_reader_that_goes_away_ends_it_quietly(model_path, tmp_path):
    face().save(tmp_path / "a.png")
    with start(model_path, *["a.png"] * 500, "--jsonl", "--detector", "none", cwd=tmp_path) as child:
        assert json.loads(child.stdout.readline())["source"] == "a.png"
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for children")
@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_an_interrupt_leaves_whole_output(model_path, tmp_path, form):
    """Ctrl-C in the middle: the document is closed, the drawn video and the timeline hold the frames until then."""
    clip(str(tmp_path / "b.avi"), 200, size=(320, 240))
    words = ["b.avi"] * 200 + ["--detector", "none", "--annotate", "out.mp4", "--timeline", "t.jsonl", form]
    with (tmp_path / "out").open("w") as out, start(model_path, *words, cwd=tmp_path, stdout=out) as child:
        deadline = time.monotonic() + 120
        while (tmp_path / "out").stat().st_size < 30_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=120)[1]
    assert child.returncode == 130
    assert "Traceback" not in said
    text = (tmp_path / "out").read_text()
    read = len(json.loads(text)["results"]) if form == "--json" else len(list(csv.DictReader(io.StringIO(text))))
    assert 0 < read < 40_000
    assert abs(10 * seconds_of(str(tmp_path / "out.mp4")) - read) <= 2
    spans = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert abs(sum(span["frames"] for span in spans) - read) <= 2


def test_only_light_packages_are_imported(model_path, tmp_path, astronaut):
    Image.fromarray(astronaut[:256, 64:384]).save(tmp_path / "a.png")
    code = (
        "import atexit, sys; from mien.cli import main; "
        f"atexit.register(lambda: print([name for name in {LIGHT} if name in sys.modules], file=sys.stderr)); main()"
    )
    command = [sys.executable, "-c", code, "predict", "a.png", "--annotate", "drawn", "--model", str(model_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240)
    assert done.stderr == "[]\n"
    assert (tmp_path / "drawn" / "a.jpg").stat().st_mode & stat.S_IFREG


@pytest.mark.usefixtures("astronaut")  # skips where scikit-image is missing
def test_the_demo_reads_a_photo_with_any_model(model_path, tmp_path, capfd):
    assert read_astronaut(str(model_path), tmp_path / "astronaut.jpg") == tmp_path / "astronaut.jpg"
    with Image.open(tmp_path / "astronaut.jpg") as drawn:
        assert drawn.size == (512, 512)
    assert capfd.readouterr().err.startswith("the astronaut looks ")
