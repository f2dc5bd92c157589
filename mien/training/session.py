"""A recipe or a run's folder in, a trained run out: the whole line from pictures to a saved network."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from mien.data.balance import class_weights
from mien.data.dataset import Dataset, untracked
from mien.data.fetch import find_csv, name_source, open_data, title_of
from mien.data.splits import Splits, split
from mien.data.votes import Votes, load_votes
from mien.emotions import Probabilities, Track
from mien.errors import RecipeError, RunError
from mien.evaluation.calibration import Calibration
from mien.evaluation.doubts_page import Doubt, doubts_page
from mien.evaluation.evaluate import calibrate, evaluate, read_report, settings_of, verify
from mien.evaluation.report import Report
from mien.files import hash_of, write_json, write_text
from mien.models import build_network
from mien.training.curriculum import Difficulties, pilot_difficulties
from mien.training.doubts import find_doubts, out_of_fold
from mien.training.ensemble import FILE as ENSEMBLE
from mien.training.ensemble import Ensemble, check_same_splits, save_ensemble
from mien.training.explain import explanations
from mien.training.judged import open_judged, source_of, split_of
from mien.training.progress import ShowProgress
from mien.training.recipe import Recipe
from mien.training.runs import Run, describe_environment, new_run_folder
from mien.training.taught import Teacher
from mien.training.teachers import Teachers
from mien.training.trackers import Tracker, track_report, trackers, trackers_of, tracking
from mien.training.trained import load_trained
from mien.training.trainer import WHENCE, check_data, images_an_epoch, oversampling_target, targets_of, train
from mien.training.tutors import Tutors

PILOT_EPOCHS, PILOT_FOLDS = 4, 2  # enough to tell easy faces from hard ones


def start_run(
    recipe: Recipe,
    *,
    data: str | None,
    out: Path | None = None,
    skip_bad: bool = False,
    votes: Path | None = None,
    teachers: Teachers | Tutors | None = None,
    shown_in: str = "",
    console: Console,
    track: Track = untracked,
) -> Run:
    """Train `recipe` in a new folder: `out`, or one below runs/. `data` as in `open_data`, `votes`: FER+ votes.

    teachers: where the recipe learns from them. shown_in: names of trackers with commas between, as `trackers` takes them.
    """
    watching = trackers(shown_in)  # before the folder is made: a name or a package may be missing
    given = {
        "labels": True,
        "votes": votes,
        "teacher": isinstance(teachers, Teachers),
        "teacher_views": isinstance(teachers, Tutors),
    }
    if not given[recipe.targets]:
        raise RecipeError(f"targets is {recipe.targets!r}, but none were given; expected {WHENCE[recipe.targets]}")
    if recipe.curriculum == "votes" and not votes:
        raise RecipeError(f"curriculum is 'votes', but none were given; expected {WHENCE['votes']}")
    if votes and "votes" not in (recipe.targets, recipe.curriculum):
        raise RecipeError(f"votes came for {recipe.name}; expected them with targets=votes or curriculum=votes alone")
    source = name_source(data)
    dataset = open_data(source, skip_bad=skip_bad, track=track)
    recipe.check_classes(dataset.classes)
    splits = split(dataset, validation_share=recipe.validation_share, seed=recipe.split_seed)
    # Before there is a folder: what raises here could not be resumed.
    if recipe.oversample:
        oversampling_target(recipe, splits.train)
    if recipe.class_weights:
        class_weights(targets_of(splits.train), classes=dataset.classes)
    if recipe.weights != "none":
        build_network(recipe.model, classes=len(dataset.classes), weights=recipe.weights)
    if votes:
        load_votes(votes, splits.train, fer2013_csv=find_csv(source), partial=True)
    said = {"skipped": list(dataset.skipped), "notes": list(dataset.notes)}
    facts = {"data": source, "skip_bad": skip_bad, **said, **splits.to_dict()}
    if votes:
        facts |= {"votes": str(votes.resolve()), "votes_sha256": hash_of(votes)}
    if isinstance(teachers, Tutors):
        teachers.check(dataset, splits)
    elif teachers:
        teachers.check(splits.train)
    path = out or new_run_folder(Path("runs"), recipe)
    if teachers:
        facts["teachers"] = teachers.to_dict(path)
    run = Run.create(path, recipe, split=facts)
    return train_aloud(run, splits, watching, console)


def resume_run(
    path: Path,
    *,
    data: str | None = None,
    shown_in: str | None = None,
    console: Console,
    track: Track = untracked,
) -> Run:
    """Go on with the run at `path`, on the images it began with, or on the same ones at `data`.

    It goes on in the trackers that have shown it, unless `shown_in` names others.
    """
    run = Run.open(path)
    if run.finished:
        raise RunError(f"{path} is finished after {len(run.history())} epochs; train a new run to go on learning")
    watching = choose_trackers(path, shown_in)
    return train_aloud(run, split_of(run, data=data, track=track), watching, console, data=data)


def choose_trackers(path: Path, shown_in: str | None) -> tuple[Tracker, ...]:
    """The trackers that `shown_in` names; where it is None, those that have shown the run at `path` before."""
    if (path / ENSEMBLE).exists():
        if shown_in:
            raise RunError(f"{path} is an ensemble, which no tracker shows; expected a run with --track {shown_in}")
        return ()
    return trackers_of(Run.open(path)) if shown_in is None else trackers(shown_in)


def evaluate_run(
    path: Path,
    *,
    data: str | None = None,
    protocol: str = "kaggle",
    without_duplicates: bool = False,
    full: bool = False,
    votes: Path | None = None,
    operating_point: str | None = None,
    views: str = "single",
    minimum_confidence: float | None = None,
    track: Track = untracked,
) -> Report:
    """Judge the finished run or the ensemble at `path` on test images.

    full: under corruptions too, and with pictures that explain one network. views: more than single averages over them.
    """
    judged = open_judged(path)
    origin = source_of(judged.runs[0])
    source = data or origin
    splits = judged.splits(data=source, track=track)
    return evaluate(
        judged.classifier,
        splits,
        model=judged.name,
        data=title_of(splits.test, origin),
        protocol=protocol,
        without_duplicates=without_duplicates,
        corruptions=full,
        votes=votes,
        fer2013_csv=find_csv(source),
        operating_point=operating_point,
        views=views,
        minimum_confidence=minimum_confidence,
        explain=partial(explanations, judged.networks[0]) if full and judged.is_single else None,
        provenance={**judged.provenance(), "evaluated with": describe_environment()},
        history=judged.runs[0].history() if judged.is_single else (),
    )


def save_report(path: Path, report: Report, *, shown_in: tuple[Tracker, ...]) -> None:
    """Write a report's files into the folder of the run that it judges, and show it in trackers."""
    report.save(path)
    if shown_in:
        track_report(Run.open(path), report, shown_in)


def verify_report(report: Path, *, data: str | None = None, track: Track = untracked) -> list[str]:
    """What the report.json in a run's folder claims and a new evaluation of that run does not bear out."""
    claimed = read_report(report)
    found = evaluate_run(report.parent, data=data, track=track, **settings_of(claimed))
    return verify(claimed, found)


def train_aloud(
    run: Run, splits: Splits, watching: tuple[Tracker, ...], console: Console, *, data: str | None = None
) -> Run:
    """Train with a progress bar, shown in trackers; an interrupt says what is kept and how to go on.

    data: where the run's images are now, if they were moved.
    """
    recipe = run.recipe
    check_data(splits, run)
    describe_start(run, splits.train, console)
    progress = ShowProgress(console, epochs=recipe.epochs, images=images_an_epoch(recipe, splits.train))
    try:
        with run.alone(), tracking(run, watching) as watchers:
            return train(
                recipe,
                splits,
                run,
                difficulties=find_difficulties(run, splits.train, console, data=data),
                soft_targets=find_soft_targets(run, splits.train, console, data=data),
                teachers=find_tutors(run),
                watchers=(progress, *watchers),
            )
    except KeyboardInterrupt:
        console.print(
            f"stopped; {len(run.history())} epochs are kept. Go on with: mien train --resume {run.path}", soft_wrap=True
        )
        raise
    finally:
        progress.stop()


def find_difficulties(run: Run, train_part: Dataset, console: Console, *, data: str | None) -> Difficulties | None:
    """How hard each training image is: to a short pilot that did not learn from it, whose runs lie in the run's folder,
    or by how little annotators agreed on it; where they have not seen it, it is as hard as can be.
    """
    if run.recipe.curriculum == "none":
        return None
    if run.recipe.curriculum == "votes":
        return 1.0 - votes_of(run, train_part, data=data).agreement(train_part.classes).astype(np.float64)
    console.print("sorting faces by difficulty with a short pilot")
    pilot = Recipe(name="pilot", model="compact", epochs=PILOT_EPOCHS, class_weights=False, seed=run.recipe.seed)
    folds = out_of_fold(pilot, train_part, folder=run.path / "pilot", folds=PILOT_FOLDS, console=console)
    return pilot_difficulties(train_part.labels, folds)


def find_soft_targets(run: Run, train_part: Dataset, console: Console, *, data: str | None) -> Probabilities | None:
    """For the run's training images: the shares of the classes among votes, or what teachers say out of fold."""
    if run.recipe.targets == "votes":
        return votes_of(run, train_part, data=data).soft_targets(train_part.classes)
    if run.recipe.targets == "teacher":
        return Teachers.from_dict(run.split["teachers"], run.path).teach(train_part, console=console)
    return None


def find_tutors(run: Run) -> tuple[Teacher, ...]:
    """The networks that look on as the run's student learns; none where it learns otherwise."""
    if run.recipe.targets != "teacher_views":
        return ()
    tutors = Tutors.from_dict(run.split["teachers"], run.path)
    if tutors.to_dict(run.path) != run.split["teachers"]:
        raise RunError(
            f"the teachers of {run.path} are not what they were when it began (split.json has their hashes); put back "
            "what they were, or train a new student"
        )
    return tutors.open(precision=run.recipe.precision)


def votes_of(run: Run, train_part: Dataset, *, data: str | None) -> Votes:
    path = Path(run.split["votes"])
    found = load_votes(path, train_part, fer2013_csv=find_csv(data or run.split["data"]), partial=True)
    now = hash_of(path)
    began_with = run.split.get("votes_sha256", now)
    if now != began_with:
        raise RunError(
            f"{path} hashes to {now[:12]}, but {run.path} began with {began_with[:12]}; put back the votes it began "
            "with, or train a new run"
        )
    return found


def build_ensemble(
    members: tuple[Path, ...], *, out: Path, data: str | None = None, track: Track = untracked
) -> Ensemble:
    """Average finished runs of one split, each calibrated on its validation images; writes ensemble.json into `out`."""
    if (out / "recipe.json").exists():
        raise RunError(f"{out} is a run; expected a folder of its own for the ensemble: choose another --out")
    runs = tuple(map(Run.open, members))
    check_same_splits(runs)
    splits = split_of(runs[0], data=data, track=track)
    check_data(splits, runs[0])
    networks = tuple(map(load_trained, runs))
    ensemble = Ensemble(networks, tuple(calibrate(network, splits) for network in networks))
    save_ensemble(out, runs, ensemble)
    return ensemble


def calibrate_run(
    path: Path, *, priors: dict[str, float] | None = None, data: str | None = None, track: Track = untracked
) -> Calibration:
    """Fit the calibration of the finished run at `path` on its validation images, and write calibration.json.

    priors: share of every class in the population to be read, where it differs from the training images'. Raises
    RunError for an ensemble.
    """
    if (path / ENSEMBLE).exists():
        raise RunError(f"{path} is an ensemble, whose members were calibrated when it was made; expected a run")
    judged = open_judged(path)
    classes = judged.classifier.classes
    calibration = calibrate(judged.classifier, judged.splits(data=data, track=track))
    if priors:
        if set(priors) != set(classes):
            raise RecipeError(f"priors name {', '.join(priors)}; expected each of {', '.join(classes)}")
        calibration = calibration.retarget(tuple(priors[name] for name in classes))
    write_json(path / "calibration.json", {"classes": list(classes), **calibration.to_dict()})
    return calibration


def find_label_doubts(
    recipe: Recipe,
    *,
    data: str | None,
    skip_bad: bool = False,
    out: Path,
    folds: int = 5,
    console: Console,
    track: Track = untracked,
) -> tuple[Doubt, ...]:
    """The training labels that out-of-fold predictions doubt; writes doubts.json and doubts.html into `out`."""
    training = open_data(data, skip_bad=skip_bad, track=track).training
    doubts = find_doubts(training, out_of_fold(recipe, training, folder=out, folds=folds, console=console))
    write_json(out / "doubts.json", [asdict(doubt) for doubt in doubts])
    write_text(out / "doubts.html", doubts_page(doubts, training))
    return doubts


def describe_start(run: Run, train_part: Dataset, console: Console) -> None:
    epochs = len(run.history())
    after = f", after {epochs} epochs" if epochs else ""
    console.print(
        f"training {run.recipe.name} on {len(train_part):,} faces from {run.split['data']} in {run.path}{after}",
        highlight=False,
        soft_wrap=True,
    )
    for note in run.split.get("notes", ()):
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    if skipped := run.split["skipped"]:
        console.print(
            f"left out {len(skipped)} bad files or rows, the first: {skipped[0]}", highlight=False, soft_wrap=True
        )
