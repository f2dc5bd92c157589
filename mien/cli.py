"""The command line: parse, call one function, print. Results go to standard output, progress to standard error."""

import errno
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track
from rich.table import Column, Table
from rich.text import Text

from mien.errors import DataError, MienError, MissingExtraError, RecipeError, RunError, extra
from mien.inference.command import predict

if TYPE_CHECKING:
    from mien.training.export import Export

Data = Annotated[str | None, Parameter(name="--data", help="drawn, a folder with a folder a class, or fer2013.csv.")]
Trackers = Annotated[str | None, Parameter(name="--track")]
SkipBad = Annotated[bool, Parameter(help="Leave bad files out, instead of stopping at the first.")]

app = App(
    name="mien",
    help="Learn facial expressions as annotators labelled them, and say honestly how well.",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
)
data = app.command(
    App(
        name="data",
        help="Fetch, count and check the faces to learn from.",
        default_parameter=app.default_parameter,
        result_action="return_value",
    )
)
app.command(predict)
console = Console()
err = Console(stderr=True)


def track(items: Sequence[str], description: str) -> Iterable[str]:
    return rich_track(items, description, console=err, transient=True, disable=not err.is_terminal)


@app.command
def train(
    recipe: str | None = None,
    /,
    *changes: str,
    data: Data = None,
    out: Path | None = None,
    resume: Path | None = None,
    backend: Literal["tensorflow", "jax", "torch"] | None = None,
    skip_bad: SkipBad = False,
    votes: Path | None = None,
    trackers: Trackers = None,
) -> None:
    """Train a recipe: mien train baseline epochs=20 seed=1.

    Args:
        recipe: A name that `mien recipes` lists.
        changes: Choices of the recipe to change, each as field=value.
        out: The run's folder; runs/DATE-RECIPE-SEED where none is given.
        resume: Go on with this run where it stopped.
        backend: What Keras computes with; KERAS_BACKEND, else TensorFlow, where none is given.
        votes: A file of FER+ votes, for a recipe with targets=votes.
        trackers: Where to show the training: tensorboard, wandb, mlflow, commas between. --resume goes on in the same.
    """
    choose_backend(backend)
    with extra("train"):
        from mien.recipes import find_recipe
        from mien.training.session import resume_run, start_run
    if resume is not None:
        if recipe or changes or out or votes or skip_bad:
            raise RunError(
                "--resume goes on with a run as it began; expected no recipe, field=value, --out, --votes or --skip-bad "
                "with it"
            )
        run = resume_run(resume, data=data, shown_in=trackers, console=err, track=track)
    elif recipe is None:
        raise RunError("expected a recipe, such as `mien train baseline`, or --resume RUN; `mien recipes` lists them")
    else:
        chosen = find_recipe(recipe).override(*changes)
        run = start_run(
            chosen,
            data=data,
            out=out,
            skip_bad=skip_bad,
            votes=votes,
            shown_in=trackers or "",
            console=err,
            track=track,
        )
    print(run.path)


@app.command
def evaluate(
    run: Path,
    /,
    *,
    data: Data = None,
    skip_bad: Annotated[bool, Parameter(help="Leave bad files out; a run does as its training did.")] = False,
    protocol: Literal["kaggle", "official"] = "kaggle",
    without_duplicates: bool = False,
    full: bool = False,
    votes: Path | None = None,
    operating_point: Literal["accuracy", "balanced"] | None = None,
    views: Literal["single", "mirror", "warps"] = "single",
    min_confidence: float | None = None,
    trackers: Trackers = None,
    verify: bool = False,
    json: bool = False,
) -> None:
    """Judge a finished run on the test images, and write report.json, report.html and pictures into its folder.

    A model is judged as `mien predict` uses it, with onnxruntime alone; its report goes to NAME-report/.

    Args:
        run: The folder that `mien train` or `mien ensemble` printed, an ONNX file, or the name of a model that comes
            with mien; with --verify, a report.json.
        protocol: kaggle (all test images) or official (FER2013's PrivateTest alone, calibrated on PublicTest).
        without_duplicates: Leave out test images that equal a training image.
        full: Also under 45 corruptions, and with pictures of what the network looks at.
        votes: A file of FER+ votes, to judge against many annotators too; Microsoft's own needs fer2013.csv beside it.
        operating_point: Judge calibrated probabilities: accuracy, or balanced, which finds rare classes more often.
        views: Test-time augmentation: average over the image and its mirror image, or over ten views of it.
        min_confidence: 0 to 1: also count the faces below it, and judge the rest.
        trackers: Where to show the report; the trackers of the training where none is given.
        verify: Evaluate again as the report says it was done, and say whether it holds.
        json: Print report.json instead of tables.
    """
    with extra("evaluate"):
        from mien.evaluation.model_file import evaluate_file, is_about_model, is_model, verify_file
    if verify:
        chosen = {
            "--protocol": protocol != "kaggle",
            "--without-duplicates": without_duplicates,
            "--full": full,
            "--votes": votes,
            "--operating-point": operating_point,
            "--views": views != "single",
            "--min-confidence": min_confidence is not None,
            "--track": trackers,
            "--json": json,
        }
        if came := [option for option, given in chosen.items() if given]:
            raise RunError(f"{came[0]} came with --verify; expected none: the report says how it was made")
        if is_about_model(run):
            faults = verify_file(run, data=data, skip_bad=skip_bad, track=track)
        else:
            faults = training_session().verify_report(run, data=data, track=track)
        report_verdict(run, faults)
        return
    settings: dict[str, Any] = {
        "data": data,
        "protocol": protocol,
        "without_duplicates": without_duplicates,
        "votes": votes,
        "operating_point": operating_point,
        "views": views,
        "minimum_confidence": min_confidence,
        "track": track,
    }
    if is_model(run):
        if trackers:
            raise RunError(f"{run} is a model's file, which no tracker shows; expected a run with --track {trackers}")
        report = evaluate_file(str(run), corruptions=full, skip_bad=skip_bad, **settings)
        folder = Path(f"{run.stem}-report")
        report.save(folder)
        if note := report.provenance["model"].get("note"):
            err.print(note, highlight=False, soft_wrap=True, markup=False)
    else:
        session, folder = training_session(), run
        shown_in = session.choose_trackers(run, trackers)  # first: a name or a package may be missing
        report = session.evaluate_run(run, full=full, **settings)
        session.save_report(run, report, shown_in=shown_in)
    if json:
        print(dumps(report.to_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        report.print(console)
        tell_written(folder / "report.html")


def tell_written(path: Path) -> None:
    err.print(f"written: {path}", highlight=False, soft_wrap=True, markup=False)


def training_session() -> Any:
    """The module that trains and judges runs; importing Keras takes seconds, so only whoever needs it does."""
    choose_backend(None)
    with extra("train"):
        from mien.training import session
    return session


def report_verdict(report: Path, faults: list[str]) -> None:
    if faults:
        raise RunError(f"{report} does not hold: {'; '.join(faults)}")
    print(f"{report} holds")


@app.command
def compare(*runs: Path, out: Path = Path("comparison"), json: bool = False) -> None:
    """Set evaluated runs against the first of them: figures, intervals, a paired test, cost.

    Args:
        runs: Two folders or more that `mien evaluate` has judged on the same test images.
        out: Where comparison.json, comparison.csv and comparison.html go.
        json: Print comparison.json instead of a table.
    """
    with extra("evaluate"):
        from mien.evaluation.comparison import compare_reports
    comparison = compare_reports(runs)
    comparison.save(out)
    if json:
        print(dumps(comparison.to_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        comparison.print(console)
        tell_written(out / "comparison.html")


@app.command
def ensemble(*runs: Path, out: Path, data: Data = None) -> None:
    """Average finished runs, each calibrated: a folder that `mien evaluate` takes as it takes a run.

    Args:
        runs: Two or more folders that `mien train` printed, of one split.
        out: The folder for ensemble.json.
    """
    choose_backend(None)
    with extra("train"):
        from mien.training.session import build_ensemble
    build_ensemble(runs, out=out, data=data, track=track)
    print(out)


@app.command
def distill(
    *teachers: str,
    student: str,
    data: Data = None,
    skip_bad: SkipBad = False,
    out: Path | None = None,
    folds: int | None = None,
    teachers_in: Path | None = None,
) -> None:
    """Train a student on what teachers say: mien distill RUN base.onnx --student tiny, or mien distill base base,seed=43 --student tiny.

    Finished runs and exported files say what they see in each image as it is changed for the student. Recipes are
    trained first, once a fold, and say what they see in images that they did not learn.

    Args:
        teachers: Folders of finished runs and ONNX files, base.onnx and tiny.onnx of those that come with mien; or
            recipes, each with the choices to change after commas.
        student: The recipe to learn from them, likewise.
        out: The student's run; runs/DATE-RECIPE-SEED where none is given. Go on with mien train --resume.
        folds: How many parts the training images are dealt into, for recipes; 4 where none are given.
        teachers_in: Where recipes' runs lie, for several students; in the student's run where none is given.
    """
    choose_backend(None)
    with extra("train"):
        from mien.recipes import find_recipe
        from mien.training.session import start_run
        from mien.training.teachers import Teachers
        from mien.training.tutors import Tutors, find_teacher

    def chosen(text: str, *further: str) -> Any:
        name, *changes = text.split(",")
        return find_recipe(name).override(*changes, *further)

    models = [find_teacher(teacher) for teacher in teachers]
    trained = tuple(filter(None, models))
    if trained and len(trained) < len(teachers):
        other = teachers[models.index(None)]
        raise RecipeError(
            f"{other} is neither a run nor an ONNX file, but {trained[0]} is; expected such alone, or recipes alone"
        )
    if trained and (teachers_in or folds is not None):
        raise RecipeError("--teachers-in or --folds came, but teachers are trained; expected them with recipes alone")
    run = start_run(
        chosen(student, "targets=teacher_views" if trained else "targets=teacher"),
        data=data,
        skip_bad=skip_bad,
        out=out,
        teachers=Tutors(trained)
        if trained
        else Teachers(tuple(map(chosen, teachers)), folds=4 if folds is None else folds, folder=teachers_in),
        console=err,
        track=track,
    )
    print(run.path)


@app.command
def calibrate(run: Path, /, *, priors: str | None = None, data: Data = None) -> None:
    """Fit a finished run's calibration on its validation images, and write calibration.json into its folder.

    Args:
        run: The folder that `mien train` printed.
        priors: Share of every class in the population to be read, such as happy=0.4,sad=0.1,…, without retraining.
    """
    choose_backend(None)
    with extra("train"):
        from mien.training.session import calibrate_run
    from mien.inference.classifier import parse_priors

    found = calibrate_run(run, priors=parse_priors(priors) if priors else None, data=data, track=track)
    print(f"temperature {found.temperature:.3f}; written: {run / 'calibration.json'}")


@app.command
def export(
    run: Path,
    /,
    *,
    out: Path | None = None,
    name: str | None = None,
    licence: str = "not stated",
    data: Data = None,
    json: bool = False,
) -> None:
    """Write a finished run as ONNX files for `mien predict`: in float32, with half-precision weights, and in 8 bits.

    Each is compared with the network in Keras on the validation images before it is kept.

    Args:
        run: The folder that `mien train` printed.
        out: Where the files go; export/ in the run's folder where none is given.
        name: Of the files; the recipe's where none is given.
        licence: Of the model, to be written into the files.
        json: Print JSON instead of a table.
    """
    # Keras' export from JAX or torch lacks operations; a run of any loads under TensorFlow.
    choose_backend("tensorflow")
    with extra("train"):
        from mien.training.export import export_run
    exports = export_run(run, out=out, name=name, licence=licence, data=data, track=track)
    if json:
        print(dumps([found.to_dict() for found in exports], indent=2))
    else:
        print_exports(exports)
    refused = [f"{found.path.name}: {found.refused}" for found in exports if found.refused is not None]
    if refused:
        raise RunError(f"not written: {'; '.join(refused)}")


def print_exports(exports: "Sequence[Export]") -> None:
    table = Table("file", "MB", "differs by", "same label", "accuracy", "change", box=SIMPLE_HEAD)
    for found in exports:
        table.add_row(
            found.path.name,
            f"{found.bytes / 1e6:.2f}",
            f"{found.difference:.1e}",
            f"{found.agreement:.2%}",
            f"{found.accuracy:.2%}",
            f"{found.accuracy_change:+.2%}",
        )
    console.print(table)
    err.print(
        f"compared with Keras on {exports[0].images:,} validation images; written to: {exports[0].path.parent}",
        highlight=False,
        soft_wrap=True,
    )


@app.command
def audit(
    data: str | None = None, /, *, skip_bad: SkipBad = False, out: Path = Path("audit"), json: bool = False
) -> None:
    """Find copies, near copies, contradicting labels, blank images and test images seen in training.

    Args:
        data: drawn, a folder with a folder a class, or fer2013.csv; FER2013 where none is given.
        out: Where audit.json, audit.csv (the groups) and audit.html (with the pictures) go.
        json: Print audit.json instead of a table.
    """
    with extra("evaluate"):
        from mien.evaluation.audit_page import audit_page
    from mien.data.audit import audit as find
    from mien.data.audit import write_csv
    from mien.data.fetch import open_data
    from mien.files import write_json, write_text

    dataset = open_data(data, skip_bad=skip_bad, track=track)
    found = find(dataset)
    write_json(out / "audit.json", found.to_dict())
    write_csv(found, dataset, out / "audit.csv")
    write_text(out / "audit.html", audit_page(found, dataset))
    if json:
        print(dumps(found.to_dict(), indent=2))
        return
    table = Table("what", "number", box=SIMPLE_HEAD)
    for name, number in found.figures.items():
        table.add_row(name.replace("_", " "), f"{number:,}")
    console.print(table)
    tell_written(out / "audit.html")


@app.command
def doubts(
    recipe: str = "demo",
    /,
    *changes: str,
    data: Data = None,
    skip_bad: SkipBad = False,
    out: Path = Path("doubts"),
    folds: int = 5,
) -> None:
    """List the training labels most likely wrong, judged by networks that did not learn from them.

    Args:
        recipe: What to train, once a fold.
        changes: Choices of the recipe to change, each as field=value.
        out: Where doubts.json and doubts.html (with the pictures) go, and finished folds; a second call goes on there.
        folds: How many parts the training images are dealt into.
    """
    choose_backend(None)
    with extra("train"):
        from mien.recipes import find_recipe
        from mien.training.session import find_label_doubts
    chosen = find_recipe(recipe).override(*changes)
    found = find_label_doubts(chosen, data=data, skip_bad=skip_bad, out=out, folds=folds, console=err, track=track)
    table = Table("image", "labelled", "reads as", "sure", box=SIMPLE_HEAD)
    for doubt in found[:20]:
        table.add_row(doubt.name, doubt.labelled, doubt.suggested, f"{doubt.suggested_confidence:.0%}")
    console.print(table)
    err.print(f"{len(found):,} doubtful labels")
    tell_written(out / "doubts.html")


@data.command
def oversample(
    *,
    class_name: Annotated[str, Parameter(name="--class")],
    to: int,
    out: Path,
    data: Data = None,
    skip_bad: SkipBad = False,
    seed: int = 42,
) -> None:
    """Write the training images, with changed copies added to one class, as PNGs for use elsewhere.

    Split first: a validation set carved from this folder would hold copies of training images.

    Args:
        class_name: The class to add to.
        to: How many images it is to have.
        out: A new folder; below it a folder a class, within train/ where the images came so.
        seed: Of the changes.
    """
    from mien.data.balance import oversample as add_copies
    from mien.data.balance import write_images
    from mien.data.fetch import open_data

    training = open_data(data, skip_bad=skip_bad, track=track).training
    write_images(add_copies(training, class_name=class_name, target=to, seed=seed), out)
    print(out)


@app.command
def doctor(*, json: bool = False) -> int:
    """Say what is installed and at hand, what is missing or slow, and the cure for each; exit code 1 where it is a fault.

    Args:
        json: Print JSON instead of a table.
    """
    from mien.doctor import examine

    findings = examine()
    if json:
        print(dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        table = Table("", "what", "found", "what to do", box=SIMPLE_HEAD)
        for finding in findings:
            mark = {"ok": "[green]ok", "note": "[yellow]note", "fault": "[bold red]fault"}[finding.state]
            table.add_row(mark, *map(escape, (finding.what, finding.found, finding.cure)))
        console.print(table)
    return int(any(finding.state == "fault" for finding in findings))


@app.command
def recipes() -> None:
    """List the recipes."""
    choose_backend(None)
    with extra("train"):
        from mien.recipes import RECIPES
    table = Table("recipe", "what it is", box=SIMPLE_HEAD)
    for name, function in RECIPES.items():
        table.add_row(name, (function.__doc__ or "").partition("\n")[0])
    console.print(table)


@app.command
def models(*names: str) -> None:
    """List the networks: parameters, multiply-adds and milliseconds of one face on one core, as ONNX.

    Args:
        names: Those to list; all where none is given.
    """
    choose_backend(None)
    with extra("train"):
        from mien.models import MODELS, build_network
        from mien.models.costs import describe_costs
        from mien.training.export import milliseconds_per_face
    table = Table("model", *(Column(name, justify="right") for name in ("parameters", "MACs", "ms")), box=SIMPLE_HEAD)
    untimed = None
    for name in rich_track(names or MODELS, "measuring", console=err, transient=True, disable=not err.is_terminal):
        network = build_network(name)
        costs = describe_costs(network)
        millions = [f"{costs[key] / 1e6:,.1f} M" for key in ("parameters", "multiply_adds")]
        try:
            milliseconds = f"{milliseconds_per_face(network):.2f}"
        except (MissingExtraError, RunError) as error:  # what exports networks is not here
            milliseconds, untimed = "–", error
        table.add_row(name, *millions, milliseconds)
    console.print(table)
    if untimed:
        err.print(f"not timed: {untimed}", highlight=False, soft_wrap=True, markup=False)


@app.command
def demo(*changes: str, model: str | None = None) -> None:
    """See the whole line work in about a minute, on FER2013 where it can be had, else on drawn faces; then read a photo.

    Args:
        changes: Choices of the recipe to change, each as field=value.
        model: What reads the photo: an ONNX file, or the name of a model that comes with mien; its first where none is given.
    """
    choose_backend(None)
    with extra("train"):
        from mien.data.fetch import DRAWN, fetch
        from mien.recipes import find_recipe
        from mien.training.session import evaluate_run, start_run
    try:
        source = str(fetch())
    except DataError as error:
        err.print(f"using drawn faces: {error}", highlight=False, soft_wrap=True)
        source = DRAWN
    run = start_run(find_recipe("demo").override(*changes), data=source, console=err, track=track)
    report = evaluate_run(run.path, track=track)
    report.save(run.path)
    report.print(console)
    print(run.path / "report.html")
    from mien.inference.classifier import shipped_models

    if model or shipped_models():
        print(read_astronaut(model or shipped_models()[0], run.path / "astronaut.jpg"))


def read_astronaut(model: str, target: Path) -> Path:
    """Read the face in NASA's portrait of Eileen Collins, and draw into `target` what was read."""
    with extra("demo"):
        from skimage.data import astronaut
    from PIL import Image

    from mien.files import replacing
    from mien.inference.annotate import annotate
    from mien.inference.classifier import load

    image = astronaut()
    faces = load(model).read(image)
    with replacing(target) as draft:
        Image.fromarray(annotate(image, faces)).save(draft)
    err.print(f"the astronaut looks {', '.join(face.emotion for face in faces) or 'away'}", highlight=False)
    return target


@data.command(name="fetch")
def fetch_data() -> None:
    """Download FER2013 with KaggleHub, or find the copy at hand, and print its folder."""
    from mien.data.fetch import fetch

    print(fetch())


@data.command(name="info")
def show_data(*, data: Data = None, skip_bad: SkipBad = False, json: bool = False) -> None:
    """Count the images of each class and part, and what they weigh.

    Args:
        json: Print JSON instead of a table.
    """
    from mien.data.fetch import open_data

    dataset = open_data(data, skip_bad=skip_bad, track=track)
    facts = dataset.describe()
    if json:
        print(dumps(facts, indent=2))
        return
    table = Table("class", *facts["counts"], "share of training", box=SIMPLE_HEAD)
    for label, name in enumerate(dataset.classes):
        counts = [part[name] for part in facts["counts"].values()]
        table.add_row(
            name, *map("{:,}".format, counts), f"{dataset.training.counts()[label] / len(dataset.training):.1%}"
        )
    table.add_row("all", *(f"{sum(part.values()):,}" for part in facts["counts"].values()), "")
    console.print(table)
    console.print(f"{len(dataset):,} images, {facts['megabytes']} MB, SHA-256 {facts['sha256'][:16]}…", highlight=False)
    for note in dataset.notes:
        err.print(note, highlight=False, soft_wrap=True, markup=False)
    if dataset.skipped:
        err.print(f"left out {len(dataset.skipped)}, the first: {dataset.skipped[0]}", highlight=False, soft_wrap=True)


BRINGS = {"tensorflow": "'mien[train]'", "jax": "'mien[jax]'", "torch": "torch"}  # each of Keras' backends


def choose_backend(backend: str | None) -> None:
    """Keras reads KERAS_BACKEND when it is first imported, so this comes before any import of it."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are not for a reader
    # Off by default on processors without AVX-512; yet there, too, a training step takes two thirds of the time.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    chosen = os.environ["KERAS_BACKEND"]
    if chosen in BRINGS and find_spec("keras") and not find_spec(chosen):
        another = "" if backend else ", or set KERAS_BACKEND to one that is"
        raise MissingExtraError(
            f"Keras is to compute with {chosen}, which is not installed; run: pip install {BRINGS[chosen]}{another}"
        )
    if chosen == "tensorflow":
        import_tensorflow()


def import_tensorflow() -> None:
    """Import TensorFlow, which says on standard error that oneDNN is on, whatever the log level."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        with suppress(ImportError):  # `extra` says what to install
            import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def main() -> None:
    """Run the command line; what a person can cure is one line on standard error and exit code 1."""
    try:
        sys.exit(app(sys.argv[1:]))
    except MienError as error:
        fail(str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fail(f"{error.filename or 'a file'} cannot be written ({error.strerror}); free space there")
        if error.filename is None:
            raise
        fail(f"{error.filename} cannot be used ({error.strerror}); expected a place that may be written to, with room")
    except KeyboardInterrupt:
        sys.exit(130)


def fail(reason: str) -> NoReturn:
    err.print(Text.assemble(("error: ", "bold red"), reason), soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
