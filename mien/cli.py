"""The command line: parse, call one function, print. Results go to standard output, progress to standard error."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import track as rich_track

from mien.errors import MienError, RunError, extra

Data = Annotated[str | None, Parameter(name="--data", help="drawn, a folder with train/ and test/, or fer2013.csv.")]

app = App(name="mien", help=__doc__, result_action="return_value")
data = app.command(App(name="data", help="Fetch, count and check the faces to learn from."))
err = Console(stderr=True)


def track(items: Sequence[str], description: str) -> Iterable[str]:
    return rich_track(items, description, console=err, transient=True, disable=not err.is_terminal)


@app.command
def train(
    recipe: str | None = None,
    *changes: str,
    data: Data = None,
    out: Path | None = None,
    resume: Path | None = None,
    backend: Literal["tensorflow", "jax", "torch"] | None = None,
    skip_bad: bool = False,
) -> None:
    """Train a recipe: mien train baseline epochs=20 seed=1.

    Parameters
    ----------
    recipe: a name that `mien recipes` lists.
    changes: choices of the recipe to change, each as field=value.
    out: the run's folder; runs/DATE-RECIPE-SEED where none is given.
    resume: go on with this run where it stopped.
    backend: what Keras computes with; KERAS_BACKEND, else TensorFlow, where none is given.
    skip_bad: leave bad files out and count them, instead of stopping at the first.
    """
    choose_backend(backend)
    with extra("train"):
        from mien.recipes import find_recipe
        from mien.training.session import resume_run, start_run
    if resume is not None:
        if recipe or changes or out:
            raise RunError("--resume goes on with a run as it began; expected no recipe, field=value or --out with it")
        run = resume_run(resume, data=data, console=err, track=track)
    elif recipe is None:
        raise RunError("expected a recipe, such as `mien train baseline`, or --resume RUN; `mien recipes` lists them")
    else:
        chosen = find_recipe(recipe).override(*changes)
        run = start_run(chosen, data=data, out=out, skip_bad=skip_bad, console=err, track=track)
    print(run.path)


def choose_backend(backend: str | None) -> None:
    """Keras reads KERAS_BACKEND when it is first imported, so this comes before any import of it."""
    if backend:
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings are not for a reader


def main() -> None:
    """Run the command line; any MienError is one line on standard error and exit code 1."""
    try:
        app()
    except MienError as error:
        err.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True, markup=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
