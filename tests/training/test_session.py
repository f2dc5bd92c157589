"""The whole line, in one process: what starting, resuming and judging a run leave in its folder."""

import sys
from dataclasses import replace
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

from mien.data.audit import audit
from mien.data.dataset import load_dataset
from mien.errors import MissingExtraError, RecipeError
from mien.evaluation.comparison import compare_reports
from mien.recipes import find_recipe
from mien.training import session
from mien.training.recipe import Recipe
from mien.training.trackers import read_marks

OWN = {"happy": "smile", "surprised": "wow", "neutral": "a blank $look$"}  # an emotion and what it is called here
RECIPE = Recipe(name="small", model="compact", epochs=2, batch_size=32)


@pytest.fixture
def few_faces(drawn, monkeypatch):
    """`--data drawn` at a tenth of its size."""
    monkeypatch.setattr(session, "open_data", lambda source, **options: drawn)


@pytest.fixture
def console():
    return Console(file=StringIO(), width=200)


@pytest.fixture(scope="module")
def own(drawn, tmp_path_factory):
    """A flat folder of one's own classes: large pictures in colour."""
    root = tmp_path_factory.mktemp("own")
    for row, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        if (emotion := drawn.classes[label]) in OWN:
            (root / OWN[emotion]).mkdir(exist_ok=True)
            Image.fromarray(image[..., 0]).convert("RGB").resize((96, 96)).save(root / OWN[emotion] / f"{row}.png")
    return root


def start(path, console, *, recipe=RECIPE, data="drawn", **options):
    return session.start_run(recipe, data=data, out=path, console=console, **options)


@pytest.mark.usefixtures("few_faces")
def test_a_resumed_run_goes_on_in_its_trackers(tmp_path, console, monkeypatch, stop_after):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train = session.train

    def interrupted(recipe, splits, run, *, watchers, **options):
        return train(recipe, splits, run, watchers=(*watchers, stop_after(1)), **options)

    with monkeypatch.context() as patch:
        patch.setattr(session, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path / "run", console, shown_in="tensorboard")
    assert "Go on with: mien train --resume" in console.file.getvalue()
    run = session.resume_run(tmp_path / "run", console=console)
    mark = read_marks(run)["tensorboard"]
    assert (mark.epochs, mark.model) == (2, True)
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("val_loss")] == [1, 2]

    report = session.evaluate_run(run.path)
    session.save_report(run.path, report, shown_in=session.choose_trackers(run.path, None))
    events.Reload()
    (shown,) = events.Scalars("kaggle/accuracy")
    assert shown.value == pytest.approx(report.figures.accuracy.value)


@pytest.mark.usefixtures("few_faces")
def test_a_tracker_that_cannot_be_used_leaves_no_folder(tmp_path, console, monkeypatch):
    with pytest.raises(RecipeError, match="no tracker 'tensorbord'; expected some of tensorboard, wandb, mlflow"):
        start(tmp_path / "run", console, shown_in="tensorbord")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"wandb is not installed; run: pip install 'mien\[track\]'"):
        start(tmp_path / "run", console, shown_in="wandb")
    assert not (tmp_path / "run").exists()


def test_classes_of_ones_own_travel_from_the_folder_to_every_figure(own, tmp_path, console):
    classes = tuple(sorted(OWN.values()))
    run = start(tmp_path / "run", console, data=str(own))
    said = console.file.getvalue()
    assert "pictures were made 48×48 and grey" in said
    assert "there is no test/:" in said
    assert run.split["notes"] == list(load_dataset(own).notes)

    report = session.evaluate_run(run.path, minimum_confidence=0.5)
    session.save_report(run.path, report, shown_in=())
    assert report.figures.classes == classes
    assert report.figures.images == len(load_dataset(own).test)
    assert session.verify_report(run.path / "report.json") == []
    calibration = session.calibrate_run(run.path, priors={"smile": 0.5, "wow": 0.25, "a blank $look$": 0.25})
    assert calibration.priors == (0.25, 0.5, 0.25)
    assert run.read_json("calibration.json")["classes"] == list(classes)
    assert set(audit(load_dataset(own)).class_counts["Test"]) == set(classes)

    other = start(tmp_path / "other", console, recipe=replace(RECIPE, seed=1, epochs=1), data=str(own))
    session.save_report(other.path, session.evaluate_run(other.path), shown_in=())
    compared = compare_reports([run.path, other.path])
    assert set(compared.supports) == set(classes)
    assert compared.runs[1].multiply_adds == compared.runs[0].multiply_adds > 0


@pytest.mark.parametrize(("recipe", "named"), [("improved", "disgusted"), ("stronger_classes", "fearful")])
def test_a_recipe_that_names_other_classes_is_one_line_and_leaves_no_folder(own, tmp_path, console, recipe, named):
    with pytest.raises(RecipeError, match=f"names '{named}'; expected a class of these images .*smile, wow") as caught:
        start(tmp_path / "run", console, recipe=find_recipe(recipe), data=str(own))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_csv_that_votes_follow_is_the_data_itself(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n")
    assert session.find_csv(str(tmp_path)) == session.find_csv(str(path)) == path
    assert session.find_csv("drawn") is session.find_csv(str(tmp_path / "moved")) is None
