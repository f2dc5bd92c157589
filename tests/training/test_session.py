"""The whole line, in one process: what starting, resuming and judging a run leave in its folder."""

import sys
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from mien.errors import MissingExtraError, RecipeError, RunError
from mien.training import judged, session
from mien.training.ensemble import load_ensemble
from mien.training.recipe import Recipe
from mien.training.teachers import Teachers
from mien.training.trackers import read_marks
from mien.training.trained import load_trained
from mien.training.trainer import learning_targets

RECIPE = Recipe(name="small", model="compact", epochs=2, batch_size=32)


@pytest.fixture(autouse=True)
def few_faces(drawn, monkeypatch):
    """`--data drawn` at a tenth of its size."""
    for module in (session, judged):
        monkeypatch.setattr(module, "open_data", lambda source, **options: drawn)


@pytest.fixture
def console():
    return Console(file=StringIO(), width=200)


def start(path, console, recipe=RECIPE, **options):
    return session.start_run(recipe, data="drawn", out=path, console=console, **options)


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


def test_a_tracker_that_cannot_be_used_leaves_no_folder(tmp_path, console, monkeypatch):
    with pytest.raises(RecipeError, match="no tracker 'tensorbord'; expected some of tensorboard, wandb, mlflow"):
        start(tmp_path / "run", console, shown_in="tensorbord")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"wandb is not installed; run: pip install 'mien\[track\]'"):
        start(tmp_path / "run", console, shown_in="wandb")
    assert not (tmp_path / "run").exists()


def test_an_ensemble_is_judged_as_a_run_is(tmp_path, console, drawn):
    runs = [start(tmp_path / str(seed), console, replace(RECIPE, seed=seed)) for seed in (1, 2)]
    session.build_ensemble(tuple(run.path for run in runs), out=tmp_path / "both")
    report = session.evaluate_run(tmp_path / "both", views="mirror")
    session.save_report(tmp_path / "both", report, shown_in=())
    assert report.model == "ensemble of 2"
    assert report.provenance["evaluation"]["test_time_augmentation"].startswith("the image and its mirror image")
    assert [recipe["seed"] for recipe in report.provenance["recipe"]["ensemble"]] == [1, 2]
    assert session.verify_report(tmp_path / "both" / "report.json") == []

    runs_again, ensemble = load_ensemble(tmp_path / "both")
    each = [
        calibration.apply(load_trained(run).predict(drawn.test.images))
        for run, calibration in zip(runs_again, ensemble.calibrations, strict=True)
    ]
    expected = np.sqrt(each[0].astype(float) * each[1])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ensemble.predict(drawn.test.images), expected, atol=1e-5)


def test_networks_of_several_splits_are_no_ensemble(tmp_path, console):
    start(tmp_path / "one", console)
    start(tmp_path / "two", console, replace(RECIPE, split_seed=1))
    with pytest.raises(RunError, match="other train and validation images.*same data, split_seed and validation_share"):
        session.build_ensemble((tmp_path / "one", tmp_path / "two"), out=tmp_path / "both")
    with pytest.raises(RunError, match="an ensemble of 1; expected two runs or more"):
        session.build_ensemble((tmp_path / "one",), out=tmp_path / "both")


def test_a_student_learns_what_teachers_say_of_images_they_did_not_learn(tmp_path, console, drawn):
    teachers = Teachers((replace(RECIPE, epochs=1), replace(RECIPE, epochs=1, seed=7)), folds=2)
    student = replace(RECIPE, targets="teacher", teacher_share=0.6)
    run = start(tmp_path / "student", console, student, teachers=teachers)
    assert "fold 2 of 2: training small" in console.file.getvalue()
    known = judged.split_of(run).train
    said = Teachers.from_dict(run.split["teachers"]).teach(known, console=console)
    folds = [np.load(tmp_path / "student" / "teachers" / "small-42" / f"fold-{fold}.npy") for fold in (1, 2)]
    assert sum(map(len, folds)) == len(known) == len(said)
    targets = learning_targets(student, known, known, said)
    hard = np.eye(7)[known.labels]
    np.testing.assert_allclose(targets, 0.6 * said + 0.4 * hard, atol=1e-6)
    assert session.evaluate_run(run.path).provenance["split"]["teachers"]["folds"] == 2


def test_teachers_that_are_not_there_are_asked_for(tmp_path, console):
    with pytest.raises(
        RecipeError, match="targets is 'teacher', but none were given; expected teachers: .*mien distill"
    ):
        start(tmp_path / "student", console, replace(RECIPE, targets="teacher"))
    assert not (tmp_path / "student").exists()
