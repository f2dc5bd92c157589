"""How much sooner `mien train sprint` is as good as the project it grew from. Writes one CSV.

Both sides in one call, one after the other on the same machine: the baseline until its validation accuracy is 58 %, what
that project reported for it, and the sprint to its end. The clock counts training alone, epoch by epoch, validation
included; neither reads the test set until it is over.
Run: python benchmarks/time_to_accuracy.py --data DIR
"""

import csv
import os
from argparse import ArgumentParser
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from rich.console import Console

from mien.files import replacing
from mien.recipes import find_recipe
from mien.training.runs import Run
from mien.training.session import evaluate_run, resume_run, start_run

RESULTS = Path(__file__).parent / "results" / "time_to_accuracy.csv"
RUNS = Path("runs") / "time_to_accuracy"
GOALS = {"baseline": 0.58, "sprint": 0.61}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", default=None)
    data = parser.parse_args().data
    rows = [measure(name, data) for name in ("sprint", "baseline")]
    with replacing(RESULTS) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(RESULTS.read_text(encoding="utf-8"))


def measure(name: str, data: str | None) -> dict[str, object]:
    run = finished_run(name, data)
    history = run.history()
    epochs = next((n for n, row in enumerate(history, 1) if row["val_accuracy"] >= GOALS[name]), None)
    environment = run.environment
    return {
        "recipe": name,
        "validation_goal": GOALS[name],
        "epochs_to_goal": epochs,
        "minutes_to_goal": None if epochs is None else minutes(history[:epochs]),
        "epochs": len(history),
        "minutes": minutes(history),
        "test_accuracy": round(evaluate_run(run.path, data=data).figures.accuracy.value, 4),
        **{fact: environment[fact] for fact in ("backend", "processor", "cores", "git_commit", "started")},
    }


def finished_run(name: str, data: str | None) -> Run:
    path, console = RUNS / name, Console(stderr=True)
    if not (path / "recipe.json").exists():
        return start_run(find_recipe(name), data=data, out=path, console=console)
    run = Run.open(path)
    return run if run.finished else resume_run(path, data=data, console=console)


def minutes(rows: list[dict[str, float]]) -> float:
    return round(sum(row["seconds"] for row in rows) / 60, 2)


if __name__ == "__main__":
    main()
