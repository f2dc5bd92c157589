"""The whole line, in one process: what starting, resuming and judging a run leave in its folder."""

import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mien.data.audit import audit
from mien.data.dataset import load_dataset
from mien.data.splits import split
from mien.data.votes import ANSWERS
from mien.errors import DataError, MienError, MissingExtraError, RecipeError, RunError
from mien.evaluation.comparison import compare_reports
from mien.evaluation.model_file import evaluate_file
from mien.files import hash_of
from mien.inference.classifier import WEIGHTS, load
from mien.inference.faces import WholePicture
from mien.recipes import find_recipe
from mien.training import judged, session
from mien.training.doubts import claim, train_and_predict
from mien.training.ensemble import load_ensemble
from mien.training.export import export_run
from mien.training.judged import split_of
from mien.training.recipe import Recipe
from mien.training.runs import Run, new_run_folder
from mien.training.teachers import Teachers
from mien.training.trackers import read_marks
from mien.training.trained import load_trained
from mien.training.trainer import learning_targets
from mien.training.tutors import Tutors, find_teacher

OWN = {"happy": "smile", "surprised": "wow", "neutral": "a blank $look$"}  # an emotion and what it is called here
RECIPE = Recipe(name="small", model="compact", epochs=2, batch_size=32)
STUDENT = replace(RECIPE, targets="teacher_views", class_weights=False)


@pytest.fixture
def few_faces(drawn, monkeypatch):
    """`--data drawn` at a tenth of its size."""
    for module in (session, judged):
        monkeypatch.setattr(module, "open_data", lambda source, **options: drawn)


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


@pytest.mark.usefixtures("few_faces")
def test_an_ensemble_is_judged_as_a_run_is(tmp_path, console, drawn):
    runs = [start(tmp_path / str(seed), console, recipe=replace(RECIPE, seed=seed)) for seed in (1, 2)]
    session.build_ensemble(tuple(run.path for run in runs), out=tmp_path / "both")
    report = session.evaluate_run(tmp_path / "both", views="mirror")
    session.save_report(tmp_path / "both", report, shown_in=session.choose_trackers(tmp_path / "both", None))
    with pytest.raises(
        RunError, match="both is an ensemble, whose members were calibrated when it was made; expected a"
    ):
        session.calibrate_run(tmp_path / "both")
    with pytest.raises(RunError, match="both is an ensemble, which no tracker shows; expected a run"):
        session.choose_trackers(tmp_path / "both", "mlflow")
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


@pytest.mark.usefixtures("few_faces")
def test_networks_of_several_splits_are_no_ensemble(tmp_path, console):
    start(tmp_path / "one", console)
    start(tmp_path / "two", console, recipe=replace(RECIPE, split_seed=1))
    with pytest.raises(RunError, match="other train and validation images.*same data, split_seed and validation_share"):
        session.build_ensemble((tmp_path / "one", tmp_path / "two"), out=tmp_path / "both")
    with pytest.raises(RunError, match="an ensemble of 1; expected two runs or more"):
        session.build_ensemble((tmp_path / "one",), out=tmp_path / "both")


@pytest.mark.usefixtures("few_faces")
def test_a_student_learns_what_teachers_say_of_images_they_did_not_learn(tmp_path, console, drawn):
    teachers = Teachers((replace(RECIPE, epochs=1), replace(RECIPE, epochs=1, seed=7)), folds=2)
    student = replace(RECIPE, targets="teacher", teacher_share=0.6)
    run = start(tmp_path / "student", console, recipe=student, teachers=teachers)
    assert "fold 2 of 2: training small" in console.file.getvalue()
    known = judged.split_of(run).train
    # A moved run finds its teachers, who are asked and not trained anew.
    run = Run.open(run.path.rename(tmp_path / "moved"))
    console.file.truncate(0)
    said = Teachers.from_dict(run.split["teachers"], run.path).teach(known, console=console)
    assert not console.file.getvalue()
    folds = [np.load(tmp_path / "moved" / "teachers" / "small-42" / f"fold-{fold}.npy") for fold in (1, 2)]
    assert sum(map(len, folds)) == len(known) == len(said)
    targets = learning_targets(student, known, known, said)
    hard = np.eye(7)[known.labels]
    np.testing.assert_allclose(targets, 0.6 * said + 0.4 * hard, atol=1e-6)
    assert session.evaluate_run(run.path).provenance["split"]["teachers"]["folds"] == 2


@pytest.mark.usefixtures("few_faces")
def test_runs_that_cannot_teach_are_refused_before_there_is_a_student(tmp_path, console):
    other = start(tmp_path / "other", console, recipe=replace(RECIPE, epochs=1, split_seed=7))
    with pytest.raises(
        RunError, match="other learned from other images than the student.*expected teachers that held those back"
    ):
        start(tmp_path / "student", console, recipe=STUDENT, teachers=Tutors((other.path,)))
    with pytest.raises(
        RecipeError, match="targets is 'teacher_views', but none were given; expected finished runs or exported files"
    ):
        start(tmp_path / "student", console, recipe=STUDENT, teachers=Teachers((RECIPE,)))
    other.model_path.unlink()
    with pytest.raises(RunError, match="other is not finished, after 1 epochs; finish it with: mien train --resume"):
        start(tmp_path / "student", console, recipe=STUDENT, teachers=Tutors((other.path,)))
    with pytest.raises(RunError, match="base.onnx learned from other images than the student is to"):
        start(tmp_path / "student", console, recipe=STUDENT, teachers=Tutors((find_teacher("base.onnx"),)))
    assert not (tmp_path / "student").exists()


@pytest.mark.usefixtures("few_faces")
def test_a_student_may_learn_from_images_that_its_teachers_did_not(tmp_path, console):
    share = RECIPE.validation_share
    teacher = start(tmp_path / "teacher", console, recipe=replace(RECIPE, epochs=1))
    fuller = replace(STUDENT, epochs=1, validation_share=share / 2)
    run = start(tmp_path / "student", console, recipe=fuller, teachers=Tutors((teacher.path,)))
    assert run.split["train"]["images"] > teacher.split["train"]["images"]
    with pytest.raises(RunError, match="it may know those that judge it"):
        start(tmp_path / "less", console, recipe=STUDENT, teachers=Tutors((run.path,)))


@pytest.mark.usefixtures("few_faces")
def test_a_student_learns_what_finished_runs_see_as_it_learns(tmp_path, console, monkeypatch, stop_after):
    train, asked = session.train, []

    def interrupted(*given, teachers, watchers, **options):
        asked.extend(teachers)
        return train(*given, teachers=teachers, watchers=(*watchers, stop_after(1)), **options)

    one = start(tmp_path / "one", console, recipe=replace(RECIPE, epochs=1))
    monkeypatch.setattr(session, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "student", console, recipe=STUDENT, teachers=Tutors((one.path,)))
    monkeypatch.setattr(session, "train", train)
    blank = np.zeros((1, 48, 48, 1), np.uint8)
    assert np.array(asked[0](blank)) == pytest.approx(load_trained(one).predict(blank), abs=1e-6)

    # Moved together, the student finds its teacher, unless that is another by now.
    (tmp_path / "all").mkdir()
    teacher, student = (Run((tmp_path / name).rename(tmp_path / "all" / name)) for name in ("one", "student"))
    kept = teacher.model_path.read_bytes()
    teacher.model_path.write_bytes(b"another network")
    with pytest.raises(RunError, match="teachers of .*student are not what they were when it began"):
        session.resume_run(student.path, console=console)
    teacher.model_path.write_bytes(kept)
    with student.alone(), pytest.raises(RunError, match="student is being trained by another process; let it finish"):
        session.resume_run(student.path, console=console)
    assert len(student.history()) == 1
    session.resume_run(student.path, console=console)
    assert session.evaluate_run(student.path).provenance["split"]["teachers"] == {
        "models": {"../one": {"model.keras": hash_of(teacher.model_path), "recipe": teacher.recipe.to_dict()}}
    }


@pytest.mark.usefixtures("few_faces")
def test_an_exported_file_teaches_and_its_teachers_are_told(tmp_path, console, monkeypatch):
    pytest.importorskip("tf2onnx")
    train, asked = session.train, []

    def listening(*given, teachers, **options):
        asked.extend(teachers)
        return train(*given, teachers=teachers, **options)

    monkeypatch.setattr(session, "train", listening)
    one = start(tmp_path / "one", console, recipe=replace(RECIPE, epochs=1))
    first = start(tmp_path / "first", console, recipe=replace(STUDENT, epochs=1), teachers=Tutors((one.path,)))
    exported = find_teacher(str(export_run(first.path)[0].path))
    second = start(tmp_path / "second", console, recipe=replace(STUDENT, epochs=1), teachers=Tutors((exported,)))
    faces = np.full((2, 48, 48, 1), 99.6, np.float32)
    said = np.array(asked[-1](faces))
    assert said == pytest.approx(load_trained(first).predict(np.full(faces.shape, 100, np.uint8)), abs=1e-5)
    (told,) = second.split["teachers"]["models"].values()
    assert told["small.onnx"] == hash_of(exported)
    assert told["recipe"]["targets"] == "teacher_views"
    assert told["teachers"] == first.split["teachers"]["models"]
    assert find_teacher("small.onnx") == Path("small.onnx")
    assert find_teacher("base.onnx") == WEIGHTS / "base.onnx"
    assert find_teacher("base") is None


@pytest.mark.usefixtures("few_faces")
@pytest.mark.parametrize("curriculum", ["pilot", "votes"])
def test_a_curriculum_knows_what_is_easy(tmp_path, console, monkeypatch, drawn, curriculum):
    seen = {}

    def look(recipe, splits, run, **given):
        seen.update(splits=splits, **given)
        return run

    monkeypatch.setattr(session, "train", look)
    monkeypatch.setattr(session, "PILOT_EPOCHS", 1)
    votes = tmp_path / "votes.csv"
    agreed = {name: row % 7 for row, name in enumerate(drawn.names.tolist())}
    rows = [f"{name},{4 + n},{6 - n}{',0' * 8}" for name, n in agreed.items()]
    votes.write_text("\n".join([",".join(("path", *ANSWERS)), *rows]))
    given = {"votes": votes} if curriculum == "votes" else {}
    start(tmp_path / "run", console, recipe=replace(RECIPE, curriculum=curriculum), **given)
    names, difficulties = seen["splits"].train.names.tolist(), seen["difficulties"]
    assert difficulties.shape == (len(names),)
    if curriculum == "votes":
        assert difficulties == pytest.approx([1 - max(4 + agreed[name], 6 - agreed[name]) / 10 for name in names])


@pytest.mark.usefixtures("few_faces")
def test_a_curriculum_by_votes_asks_for_them(tmp_path, console):
    with pytest.raises(RecipeError, match="curriculum is 'votes', but none were given; expected .*--votes FILE"):
        start(tmp_path / "run", console, recipe=replace(RECIPE, curriculum="votes"))


@pytest.mark.usefixtures("few_faces")
def test_a_run_is_not_judged_with_other_images_than_it_learned_from(tmp_path, console, monkeypatch, drawn):
    run = start(tmp_path / "run", console)
    fewer = drawn.take(np.arange(1, len(drawn)))
    monkeypatch.setattr(judged, "open_data", lambda source, **options: fewer)
    for judge in (session.evaluate_run, session.calibrate_run):
        with pytest.raises(RunError, match="images hash to .* but .* began with"):
            judge(run.path)


@pytest.mark.usefixtures("few_faces")
def test_teachers_that_are_not_there_are_asked_for(tmp_path, console):
    with pytest.raises(
        RecipeError, match="targets is 'teacher', but none were given; expected recipes of teachers: .*mien distill"
    ):
        start(tmp_path / "student", console, recipe=replace(RECIPE, targets="teacher"))
    assert not (tmp_path / "student").exists()


@pytest.mark.usefixtures("few_faces")
def test_what_stops_teachers_from_being_trained_leaves_no_student_behind(tmp_path, console, drawn):
    student = replace(RECIPE, targets="teacher")
    for teachers, fault in (
        (Teachers((replace(RECIPE, oversample="bored", oversample_to=90),)), "oversample names 'bored'"),
        (Teachers((RECIPE,), folds=9_999), "images cannot fill 9999 folds"),
    ):
        with pytest.raises(MienError, match=fault):
            start(tmp_path / "student", console, recipe=student, teachers=teachers)
    claim(tmp_path / "theirs" / "small-42", RECIPE, drawn, 3)
    with pytest.raises(RunError, match="holds folds of another recipe"):
        start(tmp_path / "student", console, recipe=student, teachers=Teachers((RECIPE,), folder=tmp_path / "theirs"))
    assert not (tmp_path / "student").exists()


@pytest.mark.usefixtures("few_faces")
def test_a_fold_is_not_judged_as_a_run_is(tmp_path, drawn):
    splits = split(drawn, validation_share=0.2, seed=1)
    train_and_predict(replace(RECIPE, epochs=1), splits, tmp_path / "fold-1")
    for use in (session.evaluate_run, session.calibrate_run):
        with pytest.raises(
            RunError, match="fold-1 learned all folds but one, .*; expected a run that `mien train` left"
        ):
            use(tmp_path / "fold-1")


def test_two_runs_of_one_recipe_have_each_a_folder(tmp_path):
    first, second = (new_run_folder(tmp_path / "runs", RECIPE) for _ in range(2))
    assert first.is_dir()
    assert second.name == f"{first.name}-2"


@pytest.mark.parametrize(
    ("recipes", "fault"), [((), "no teacher came"), ((RECIPE, replace(RECIPE, epochs=3)), "two teachers are small-42")]
)
def test_teachers_that_cannot_teach_are_refused_before_they_are_trained(recipes, fault):
    with pytest.raises(RecipeError, match=fault):
        Teachers(recipes)
    with pytest.raises(RecipeError, match="no teacher came"):
        Tutors(())
    with pytest.raises(RecipeError, match="a teacher came twice: runs/a, runs/b/../a; expected different ones"):
        Tutors((Path("runs/a"), Path("runs/b/../a")))


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


def test_classes_of_ones_own_travel_to_prediction(own, tmp_path, console, monkeypatch):
    for package in ("onnx", "tf2onnx", "sympy"):
        pytest.importorskip(package)
    run = start(tmp_path / "run", console, data=str(own))
    report = session.evaluate_run(run.path)
    (exported, *_) = export_run(run.path)
    classifier = load(exported.path)
    assert classifier.classes == tuple(sorted(OWN.values()))
    picture = next((own / "smile").iterdir())
    (face,) = classifier.read(str(picture), detector=WholePicture())
    image = load_dataset(own).images[load_dataset(own).names.tolist().index(f"smile/{picture.name}")]
    # The two paths may round a grey level apart.
    assert list(face.probabilities.values()) == pytest.approx(classifier.predict(image[np.newaxis])[0], abs=0.01)
    monkeypatch.chdir(own)
    judged_file = evaluate_file(str(exported.path), data=".")
    assert judged_file.data == own.name
    assert judged_file.figures.accuracy.value == pytest.approx(report.figures.accuracy.value, abs=0.01)
    with pytest.raises(DataError, match="the images have classes angry, .*; expected a blank .*, smile, wow"):
        evaluate_file(str(exported.path), data="drawn")


@pytest.mark.parametrize(("recipe", "named"), [("improved", "disgusted"), ("stronger_classes", "fearful")])
def test_a_recipe_that_names_other_classes_is_one_line_and_leaves_no_folder(own, tmp_path, console, recipe, named):
    with pytest.raises(RecipeError, match=f"names '{named}'; expected a class of these images .*smile, wow") as caught:
        start(tmp_path / "run", console, recipe=find_recipe(recipe), data=str(own))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_faces")
@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        (
            {"oversample": "disgusted", "oversample_to": 2},
            "oversample_to=2, scaled to the split: disgusted has .* already",
        ),
        ({"oversample": "disgusted,sad"}, "oversample names 'disgusted,sad'; expected a class"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(tmp_path, console, choices, fault):
    with pytest.raises((DataError, RecipeError), match=fault):
        start(tmp_path / "run", console, recipe=replace(RECIPE, **choices))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("few_faces")
def test_votes_that_have_changed_are_refused(tmp_path, console, monkeypatch, drawn):
    votes = tmp_path / "votes.csv"
    rows = [f"{name},9,1{',0' * 8}" for name in drawn.names.tolist()]
    votes.write_text("\n".join([",".join(("path", *ANSWERS)), *rows]))
    monkeypatch.setattr(session, "train", lambda recipe, splits, run, **given: run)
    run = start(tmp_path / "run", console, recipe=replace(RECIPE, targets="votes"), votes=votes)
    session.find_soft_targets(run, split_of(run).train, console, data=None)
    votes.write_text(votes.read_text().replace("9,1", "8,2"))
    with pytest.raises(RunError, match="votes.csv hashes to .* began with .* put back the votes"):
        session.find_soft_targets(run, split_of(run).train, console, data=None)


@pytest.mark.usefixtures("few_faces")
@pytest.mark.parametrize(
    ("targets", "fault"), [("votes", "nobody.csv"), ("labels", "votes came for small; expected them")]
)
def test_votes_that_cannot_be_used_leave_no_folder(tmp_path, console, targets, fault):
    with pytest.raises((DataError, RecipeError), match=fault):
        start(tmp_path / "run", console, recipe=replace(RECIPE, targets=targets), votes=tmp_path / "nobody.csv")
    assert not (tmp_path / "run").exists()
