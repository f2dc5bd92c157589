"""How much sooner `mien train sprint` is as good as the project it grew from. Writes one CSV.

Takes two finished runs, of `baseline` and of `sprint`. Of the baseline, epochs count until its validation accuracy reached
what that project reported, 58 %; where it stopped before it was that good, all of them, so that the ratio is a lower
bound. Of the sprint all count, since only a whole schedule is as good as its end; it is to get 61 % of the test images
right. What an epoch costs, validation and all, is then measured for both in this one call, in turns, so that a noisy
machine is noisy for both. The test set is read for the accuracy of what each run kept, and decides nothing.
Run: python benchmarks/time_to_accuracy.py RUN RUN --data DIR
"""

import os
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from mien.training.averages import AveragedWeights
from mien.training.judged import split_of
from mien.training.runs import Run, describe_environment
from mien.training.session import evaluate_run
from mien.training.trainer import build_batches, compile_for, targets_of, validation_batches, wrap
from tables import write_table

RESULTS = Path(__file__).parent / "results" / "time_to_accuracy.csv"
GOALS = {"baseline": 0.58, "sprint": 0.61}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("sprint", type=Path)
    parser.add_argument("--data", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    runs = {"baseline": Run.open(arguments.baseline), "sprint": Run.open(arguments.sprint)}
    seconds = measure({name: build_epoch(run, arguments.data) for name, run in runs.items()}, rounds=arguments.rounds)
    rows = [describe(name, run, seconds[name], arguments.data) for name, run in runs.items()]
    baseline, sprint = rows
    if sprint["reached"]:
        sprint["times_as_soon"] = round(baseline["minutes"] / sprint["minutes"], 1)
    write_table(RESULTS, rows)
    print(RESULTS.read_text(encoding="utf-8"))


def measure(epochs: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Seconds, median over `rounds`; a first epoch, which compiles, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            began = time.perf_counter()
            epoch()
            if number:
                seconds[name].append(time.perf_counter() - began)
                print(f"round {number}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def build_epoch(run: Run, data: str | None) -> Callable[[], object]:
    """One epoch as `mien train` runs it."""
    recipe, splits = run.recipe, split_of(run, data=data)
    model = wrap(recipe, classes=len(splits.train.classes))
    compile_for(model, recipe, learning_rate=recipe.learning_rate, images=len(splits.train))
    batches, others = (build_batches(recipe, splits.train, targets_of(splits.train)) for _ in range(2))
    averaging = [AveragedWeights(others)] if recipe.average else []
    validation = validation_batches(recipe, splits.validation)
    return lambda: model.fit(batches, validation_data=validation, callbacks=averaging, shuffle=False, verbose=0)


def describe(name: str, run: Run, seconds: float, data: str | None) -> dict[str, float | str | None]:
    accuracy = evaluate_run(run.path, data=data).figures.accuracy.value
    epochs, reached = epochs_of(name, run, accuracy)
    environment = describe_environment()
    return {
        "recipe": name,
        "goal": GOALS[name],
        "reached": reached,
        "epochs": epochs,
        "seconds_per_epoch": round(seconds, 1),
        "minutes": round(epochs * seconds / 60, 1),
        "times_as_soon": None,
        "test_accuracy": round(accuracy, 4),
        **{fact: environment[fact] for fact in ("backend", "processor", "cores", "git_commit", "started")},
    }


def epochs_of(name: str, run: Run, test_accuracy: float) -> tuple[int, bool]:
    """How many epochs of the run count, and whether it reached its goal."""
    history = run.history()
    if name == "sprint":
        return len(history), test_accuracy >= GOALS[name]
    good = [number for number, row in enumerate(history, 1) if row["val_accuracy"] >= GOALS[name]]
    return (good[0], True) if good else (len(history), False)


if __name__ == "__main__":
    main()
