"""How much sooner `mien train sprint` is as good as the project it grew from. Writes one CSV.

Takes two finished runs, of `baseline` and of `sprint`, and counts the epochs until the validation accuracy of each
reached its goal: what that project reported for its baseline, 58 %, and 61 %. Where the baseline stopped before it was
that good, all its epochs count, so that the ratio is a lower bound. What an epoch costs is then measured for
both in this one call, on as many images, in turns, so that a noisy machine is noisy for both. The test set is read for
the accuracy of what each run kept, and decides nothing.
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

import numpy as np

from mien.data.dataset import Dataset
from mien.training.batches import Batches
from mien.training.judged import split_of
from mien.training.runs import Run, describe_environment
from mien.training.session import evaluate_run
from mien.training.trainer import class_weights_of, compile_for, targets_of, wrap
from tables import write_table

RESULTS = Path(__file__).parent / "results" / "time_to_accuracy.csv"
GOALS = {"baseline": 0.58, "sprint": 0.61}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("baseline", type=Path)
    parser.add_argument("sprint", type=Path)
    parser.add_argument("--data", default=None)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    runs = {"baseline": Run.open(arguments.baseline), "sprint": Run.open(arguments.sprint)}
    parts = {name: split_of(run, data=arguments.data).train for name, run in runs.items()}
    speeds = measure(runs, parts, images=arguments.images, rounds=arguments.rounds)
    rows = [describe(name, run, len(parts[name]) / speeds[name], arguments.data) for name, run in runs.items()]
    baseline, sprint = rows
    if sprint["reached"]:
        sprint["times_as_soon"] = round(baseline["minutes"] / sprint["minutes"], 1)
    write_table(RESULTS, rows)
    print(RESULTS.read_text(encoding="utf-8"))


def measure(runs: dict[str, Run], parts: dict[str, Dataset], *, images: int, rounds: int) -> dict[str, float]:
    """Images a second, median of `rounds` epochs on `images` images; the first, which compiles, does not count."""
    chance = np.random.default_rng(0)
    epochs = {
        name: build_epoch(run, parts[name].take(np.sort(chance.permutation(len(parts[name]))[:images])))
        for name, run in runs.items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            began = time.perf_counter()
            epoch()
            if number:
                speeds[name].append(images / (time.perf_counter() - began))
                print(f"round {number}: {name} {speeds[name][-1]:.0f} images/s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in speeds.items()}


def build_epoch(run: Run, faces: Dataset) -> Callable[[], object]:
    """One epoch as `mien train` runs it."""
    recipe = run.recipe
    model = wrap(recipe, classes=len(faces.classes))
    compile_for(model, recipe, learning_rate=recipe.learning_rate, images=len(faces))
    batches = Batches(faces.images, targets_of(faces), batch_size=recipe.batch_size, seed=0, mixup=recipe.mixup)
    weights = class_weights_of(recipe, faces)
    return lambda: model.fit(batches, class_weight=weights, shuffle=False, verbose=0)


def describe(name: str, run: Run, seconds: float, data: str | None) -> dict[str, float | str | None]:
    history = run.history()
    epochs = next((n for n, row in enumerate(history, 1) if row["val_accuracy"] >= GOALS[name]), None)
    environment = describe_environment()
    return {
        "recipe": name,
        "validation_goal": GOALS[name],
        "reached": epochs is not None,
        "epochs": epochs or len(history),
        "seconds_per_epoch": round(seconds, 1),
        "minutes": round((epochs or len(history)) * seconds / 60, 1),
        "times_as_soon": None,
        "test_accuracy": round(evaluate_run(run.path, data=data).figures.accuracy.value, 4),
        **{fact: environment[fact] for fact in ("backend", "processor", "cores", "git_commit", "started")},
    }


if __name__ == "__main__":
    main()
