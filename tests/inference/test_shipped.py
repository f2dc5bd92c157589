"""The models that come with mien do what their cards say, with ONNX Runtime alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mien.evaluation.model_file import evaluate_file
from mien.inference.classifier import WEIGHTS, load, shipped_models

MOST_MEGABYTES = {"base": 12, "tiny": 1}


def card_of(name: str) -> dict:
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


def test_base_and_tiny_come_with_it():
    assert set(shipped_models()) == set(MOST_MEGABYTES)


@pytest.mark.parametrize("name", MOST_MEGABYTES)
def test_a_model_is_light_and_its_card_says_what_it_is(name):
    path, card = WEIGHTS / f"{name}.onnx", card_of(name)
    assert path.stat().st_size <= 1e6 * MOST_MEGABYTES[name]
    assert card["bytes"] == path.stat().st_size
    assert (card["name"], card["path"]) == (name, path.name)
    assert load(name).metadata["licence"] == card["licence"] == "MIT"
    recipes = list(recipes_of({"recipe": card["recipe"], **card["hashes"]}))
    assert all(recipe["targets"] in ("labels", "teacher", "teacher_views") for recipe in recipes)  # no extra annotation
    assert all(recipe["curriculum"] != "votes" for recipe in recipes)


def recipes_of(model):
    """Its own, its teachers', their teachers', …"""
    yield model["recipe"]
    for teacher in model.get("teachers", {}).values():
        yield from recipes_of(teacher)


@pytest.mark.fer2013
@pytest.mark.parametrize("name", MOST_MEGABYTES)
def test_a_card_promises_what_evaluate_finds(name, fer2013):
    report, promised = evaluate_file(name, data=str(fer2013)), card_of(name)["test"]
    assert report.figures.images == promised["images"] == 7178
    # Another processor adds up in another order, and may round a few images to the other side.
    assert report.figures.accuracy.value == pytest.approx(promised["accuracy"], abs=2e-3)
    assert report.figures.macro_f1.value == pytest.approx(promised["macro_f1"], abs=3e-3)
    assert report.figures.ece == pytest.approx(promised["ece"], abs=3e-3)


@pytest.mark.parametrize("name", MOST_MEGABYTES)
def test_a_face_is_read_alike_alone_and_among_others(name, drawn):
    classifier, images = load(name, threads=1), drawn.test.images[:40]
    together = classifier.predict(images)
    alone = np.concatenate([classifier.predict(images[row : row + 1]) for row in range(len(images))])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_astronaut_is_happy(astronaut, tmp_path):
    Image.fromarray(astronaut).save(tmp_path / "astronaut.png")
    command = [sys.executable, "-m", "mien.cli", "predict", "astronaut.png", "--jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240)
    (face,) = json.loads(done.stdout)["faces"]
    assert face["emotion"] == "happy"
