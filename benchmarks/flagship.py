"""Trainings that may become the shipped models, in order: what is done, what is under way and what comes next.

Run: python benchmarks/flagship.py --data DIR --plan     says which trainings are finished and which is next
     python benchmarks/flagship.py --data DIR [NAME …]   goes on with the next, and so on, until all are finished

A training that was cut off goes on after its last whole epoch, and is refused to a second process. Two processes train
more on two cores than one does, each kept to a core (taskset) and given names that the other is not. Runs lie in
runs/flagship/. Nothing here reads the test set: benchmarks/candidates.py chooses among what `mien export` makes of these
by validation, and `mien evaluate` judges the chosen ones once.
"""

import os
import subprocess
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from rich.console import Console
from rich.table import Table

from mien.errors import RunError
from mien.files import replacing
from mien.recipes import find_recipe
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.session import resume_run, start_run
from mien.training.tutors import Tutors

RUNS = Path("runs") / "flagship"
BASE = "mien/inference/weights/base.onnx"
BASES = ("2d287d3", "79cf3a7", "ec41bc8")  # commits whose BASE teaches: two that were taught, one of another network


@dataclass(frozen=True)
class Training:
    """One run, named after its folder."""

    name: str
    recipe: Recipe

    @property
    def path(self) -> Path:
        return RUNS / self.name

    @property
    def epochs(self) -> int:
        return len(Run.open(self.path).history()) if self.has_begun else 0

    @property
    def has_begun(self) -> bool:
        return (self.path / "recipe.json").exists()

    def check(self) -> None:
        """Raise RunError unless what has begun is what is planned."""
        run = Run.open(self.path)
        run.require(self.recipe)
        if run.split["teachers"] != teachers().to_dict(self.path):
            raise RunError(f"{self.path} began with other teachers, or with what they were before; move it away")

    @property
    def is_finished(self) -> bool:
        return self.has_begun and Run.open(self.path).finished


def plan() -> tuple[Training, ...]:
    """Students of files that came with mien, and so of what taught those: what they knew is not lost.

    Of the first two came base and tiny as they are. The third is untried: base on more of the images, as tiny, and longer.
    """
    base, tiny = (find_recipe(name).override("precision=mixed_bfloat16") for name in ("base", "tiny"))
    shown = ("targets=teacher_views", "teacher_share=0.8", "label_smoothing=0")
    longer = ("weight_decay=0.02", "learning_rate=0.015", "epochs=36", "oversample=disgusted", "oversample_to=1300")
    plain = ("mixup=0", "erasing=0", "zoom=0.12", "shift=0.08")
    fuller = "validation_share=0.05"
    return (
        Training("base-plain-42", base.override(*shown, *longer, *plain, "name=base_plain")),
        Training("tiny-fuller-42", tiny.override(*shown, fuller, "epochs=90", "name=tiny_fuller")),
        Training("base-fuller-42", base.override(*shown, *longer, *plain, fuller, "epochs=50", "name=base_fuller")),
    )


def teachers() -> Tutors:
    return Tutors(tuple(map(shipped_in, BASES)))


def shipped_in(commit: str) -> Path:
    """base.onnx as it came with mien in `commit`, from the history of this repository."""
    path = RUNS / f"base-{commit}.onnx"
    if not path.exists():
        shown = subprocess.run(["git", "show", f"{commit}:{BASE}"], check=False, capture_output=True)
        if shown.returncode:
            raise RunError(
                f"{BASE} of commit {commit} is not at hand ({shown.stderr.decode().strip()}); clone the history"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            draft.write_bytes(shown.stdout)
    return path


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these trainings alone")
    parser.add_argument("--data", default=None)
    parser.add_argument("--plan", action="store_true", help="say what is done and what is next, and train nothing")
    arguments = parser.parse_args()
    trainings = plan()
    known = [training.name for training in trainings]
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"there is no training {unknown[0]}; expected some of {', '.join(known)}")
    console = Console(stderr=True)
    if arguments.plan:
        show(trainings)
        return
    for training in trainings:
        if arguments.names and training.name not in arguments.names:
            continue
        if not training.is_finished:
            go_on(training, data=arguments.data, console=console)


def go_on(training: Training, *, data: str | None, console: Console) -> None:
    if training.has_begun:
        training.check()
        resume_run(training.path, data=data, console=console)
    else:
        start_run(training.recipe, data=data, out=training.path, teachers=teachers(), console=console)


def show(trainings: tuple[Training, ...]) -> None:
    table = Table("training", "epochs", "state")
    waiting = iter(("next",))
    for training in trainings:
        state = "finished" if training.is_finished else next(waiting, "waits")
        table.add_row(training.name, f"{training.epochs} of {training.recipe.epochs}", state)
    Console().print(table)


if __name__ == "__main__":
    main()
