"""The whole line, in one process: what starting, resuming and judging a run leave in its folder."""

import sys
from io import StringIO

import pytest
from rich.console import Console

from mien.errors import MissingExtraError, RecipeError
from mien.training import session
from mien.training.recipe import Recipe
from mien.training.trackers import read_marks

RECIPE = Recipe(name="small", model="compact", epochs=2, batch_size=32)


@pytest.fixture(autouse=True)
def few_faces(drawn, monkeypatch):
    """`--data drawn` at a tenth of its size."""
    monkeypatch.setattr(session, "open_data", lambda source, **options: drawn)


@pytest.fixture
def console():
    return Console(file=StringIO(), width=200)


def start(path, console, **options):
    return session.start_run(RECIPE, data="drawn", out=path, console=console, **options)


def test_a_resumed_run_goes_on_in_its_trackers(tmp_path, console, monkeypatch, stop_after):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train = session.train

    def interrupted(recipe, splits, run, *, watchers, **options):
        return train(recipe, splits, run, watchers=(*watchers, stop_after(1)), **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(session, "train", interrupted)
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
