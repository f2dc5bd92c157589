"""What is written is read back with parsers that are not ours."""

import csv
import io
import json

import pytest

from mien.errors import RecipeError
from mien.inference.classifier import Face
from mien.inference.schema import FACE_COLUMNS, FRAME_COLUMNS, Result, open_writer

CLASSES = ("glad", "grim")
FACES = (
    Face((-3, 4, 50, 51), 0.91, "glad", {"glad": 0.75, "grim": 0.25}, 0.75, False),
    Face((100, 4, 30, 30), 1 / 3, "grim", {"glad": 0.4, "grim": 0.6}, 0.6, True, person=7),
)
RESULTS = (
    Result('a, "b"\n🙂.jpg', 0, None, 640, 480, FACES),
    Result("clip.mp4", 25, 1.00049, 64, 48, ()),
    Result("caf\udce9.png", error="caf\udce9.png is empty; expected a photo or video"),
)


def written(form: str) -> str:
    stream = io.StringIO()
    with open_writer(form, stream, classes=CLASSES) as writer:
        for result in RESULTS:
            writer.add(result)
    return stream.getvalue()


def check(values: list[dict]) -> None:
    assert [list(value) for value in values] == [
        ["source", "frame", "seconds", "width", "height", "faces", "error"]
    ] * 3
    assert [value["source"] for value in values] == [RESULTS[0].source, "clip.mp4", "caf\\udce9.png"]
    first, second = values[0]["faces"]
    assert list(first) == ["person", "box", "score", "emotion", "confidence", "uncertain", "probabilities"]
    assert first["box"] == [-3, 4, 50, 51]
    assert second["person"] == 7
    assert second["score"] == 0.333333
    assert second["probabilities"] == {"glad": 0.4, "grim": 0.6}
    assert (values[1]["seconds"], values[1]["faces"], values[1]["error"]) == (1.0, [], None)
    assert values[2]["frame"] is None
    assert values[2]["error"].endswith("is empty; expected a photo or video")


def test_json_is_one_object():
    document = json.loads(written("json"))
    assert list(document) == ["schema", "classes", "results"]
    assert (document["schema"], document["classes"]) == ("mien 1", list(CLASSES))
    check(document["results"])


def test_json_lines_are_an_object_a_line():
    check([json.loads(line) for line in written("jsonl").splitlines()])


def test_csv_has_a_row_a_face_and_one_where_there_is_none():
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert list(rows[0]) == [*FRAME_COLUMNS, *FACE_COLUMNS, *CLASSES, "error"]
    assert [row["source"] for row in rows] == [RESULTS[0].source] * 2 + ["clip.mp4", "caf\\udce9.png"]
    assert [row["emotion"] for row in rows] == ["glad", "grim", "", ""]
    assert [row["width"] for row in rows] == ["50", "30", "", ""]
    assert [row["grim"] for row in rows] == ["0.25", "0.6", "", ""]
    assert [row["person"] for row in rows] == ["", "7", "", ""]
    assert [row["uncertain"] for row in rows] == ["False", "True", "", ""]
    assert rows[3]["error"].startswith("caf")


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_is_broken_off_is_valid_up_to_there(form, done):
    stream = io.StringIO()

    def write_some() -> None:
        with open_writer(form, stream, classes=CLASSES) as writer:
            for result in RESULTS[:done]:
                writer.add(result)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_some()
    text = stream.getvalue()
    if form == "json":
        assert len(json.loads(text)["results"]) == done
    elif form == "jsonl":
        assert len([json.loads(line) for line in text.splitlines()]) == done
    else:
        assert len(list(csv.DictReader(io.StringIO(text)))) == (0, 2, 3)[done]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_any_terminal_takes_json(form):
    written(form).encode("ascii")


def test_an_unknown_form_is_refused():
    with (
        pytest.raises(RecipeError, match="expected json, jsonl, csv"),
        open_writer("xml", io.StringIO(), classes=CLASSES),
    ):
        pass


def test_no_number_is_written_that_json_has_not():
    with pytest.raises(ValueError, match="JSON"), open_writer("jsonl", io.StringIO(), classes=CLASSES) as writer:
        writer.add(Result("x.mp4", 0, float("nan"), 1, 1))
