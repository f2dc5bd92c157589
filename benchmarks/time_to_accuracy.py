"""How much sooner `mien train sprint` is as good as the project it grew from. Writes one CSV.

Both were trained by `python benchmarks/ablation.py --setting full`, whose CSV says how many epochs each took and what it
got right. All of them count: only a whole schedule is as good as its end, and the baseline stops by itself; where that
was before it was as good as that project reported, 58 % of validation, the ratio is a lower bound. The sprint is to get
61 % of the test images right. What an epoch costs, validation and all, is then measured for both in this one call, in
turns, so that a noisy machine is noisy for both.
Run: python benchmarks/time_to_accuracy.py --data DIR
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

from ablation import RESULTS as TRAINED
from mien.data.fetch import open_data
from mien.data.splits import split
from mien.recipes import find_recipe
from mien.training.recipe import Recipe
from mien.training.runs import describe_environment
from mien.training.trainer import build_batches, compile_for, targets_of, validation_batches, wrap
from tables import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "time_to_accuracy.csv"
PRECISION = "precision=mixed_bfloat16"
GOALS = {"baseline": ("validation_accuracy", 0.58), "sprint": ("accuracy", 0.61)}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    runs = {name: find_run(name) for name in GOALS}
    epochs = {name: build_epoch(find_recipe(name).override(PRECISION), arguments.data) for name in GOALS}
    seconds = measure(epochs, rounds=arguments.rounds)
    rows = [describe(name, runs[name], seconds[name]) for name in GOALS]
    baseline, sprint = rows
    if sprint["reached"]:
        sprint["times_as_soon"] = round(baseline["minutes"] / sprint["minutes"], 1)
    write_table(RESULTS, rows)
    print(RESULTS.read_text(encoding="utf-8"))


def find_run(name: str) -> dict[str, str]:
    """Its row in the ablation's CSV."""
    idea = f"{name} {PRECISION}"
    found = [row for row in read_table(TRAINED) if (row["recipe"], row["setting"]) == (idea, "full")]
    if not found:
        sys.exit(f"{idea} is not trained; run: python benchmarks/ablation.py --setting full '{idea}' --seeds 42")
    return found[0]


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


def build_epoch(recipe: Recipe, data: str | None) -> Callable[[], object]:
    """One epoch as `mien train` runs it."""
    splits = split(open_data(data), validation_share=recipe.validation_share, seed=recipe.split_seed)
    model = wrap(recipe, classes=len(splits.train.classes))
    compile_for(model, recipe, learning_rate=recipe.learning_rate, images=len(splits.train))
    batches = build_batches(recipe, splits.train, targets_of(splits.train))
    validation = validation_batches(recipe, splits.validation)
    return lambda: model.fit(batches, validation_data=validation, shuffle=False, verbose=0)


def describe(name: str, run: dict[str, str], seconds: float) -> dict[str, float | str | None]:
    figure, goal = GOALS[name]
    epochs, environment = int(run["epochs"]), describe_environment()
    return {
        "recipe": name,
        "goal": goal,
        "reached": float(run[figure]) >= goal,
        "epochs": epochs,
        "seconds_per_epoch": round(seconds, 1),
        "minutes": round(epochs * seconds / 60, 1),
        "times_as_soon": None,
        "test_accuracy": float(run["accuracy"]),
        **{fact: environment[fact] for fact in ("backend", "processor", "cores", "git_commit", "started")},
    }


if __name__ == "__main__":
    main()
