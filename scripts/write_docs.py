"""Write the generated pages of docs/; with --check, say which are out of date instead."""

import csv
import os
import sys
from pathlib import Path
from statistics import fmean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mien.cli import app
from mien.recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS.parent / "benchmarks" / "results"


def cli_page() -> str:
    return app.generate_docs().rstrip() + "\n"


def recipes_page() -> str:
    lines = ["# Recipes", "", "A recipe is one file in `mien/recipes/`; its text is its promise.", ""]
    for name, function in RECIPES.items():
        promise = "\n".join(line.strip() for line in (function.__doc__ or "").strip().splitlines())
        lines += [f"## {name}", "", promise, ""]
    return "\n".join([*lines, *measured()])


def measured() -> list[str]:
    """What benchmarks/ablation.py found, a table for each setting: mean over seeds, and the range where there are several."""
    rows = read_rows("ablation.csv")
    lines = ["## Measured", "", INTRODUCTION, "", PREDECESSOR, ""]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        chosen = [row for row in rows if row["setting"] == setting]
        lines += [f"### {setting}", "", SETTINGS[setting], "", *table(chosen), "", hardware(chosen), ""]
    return lines


INTRODUCTION = (
    "Test figures on the 7,178 images, single view, uncalibrated, from `benchmarks/results/ablation.csv`; "
    "`python benchmarks/ablation.py` writes it. Mean over seeds (lowest–highest)."
)
PREDECESSOR = (
    "The project this one grew from reported, on the same images: baseline accuracy 0.58, macro-F1 0.54, disgusted "
    "recall 0.27; improved accuracy 0.60–0.61, disgusted recall 0.55."
)
SETTINGS = {
    "narrow": "Each idea on a VGG with a quarter of the filters (the transformer as it is), 10 epochs on a cosine.",
    "full": "As the recipes say.",
}
COLUMNS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "disgusted_recall": "disgusted recall",
    "fearful_recall": "fearful recall",
    "validation_accuracy": "validation accuracy",
    "validation_disgusted_recall": "validation disgusted recall",
    "epochs": "epochs",
    "minutes": "minutes",
}


def table(rows: list[dict[str, str]]) -> list[str]:
    lines = [f"| recipe | seeds | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        chosen = [row for row in rows if row["recipe"] == name]
        cells = [spread([float(row[column]) for row in chosen], column) for column in COLUMNS]
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} |")
    return lines


def spread(values: list[float], column: str) -> str:
    digits = {"epochs": 0, "minutes": 1}.get(column, 3)
    low, mean, high = (f"{value:.{digits}f}" for value in (min(values), fmean(values), max(values)))
    return mean if low == high else f"{mean} ({low}–{high})"


def hardware(rows: list[dict[str, str]]) -> str:
    found = {f"{row['processor']}, {row['cores']} cores, {row['backend']}" for row in rows}
    return f"Hardware: {'; '.join(sorted(found))}."


def read_rows(name: str) -> list[dict[str, str]]:
    path = RESULTS / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PAGES = {"cli.md": cli_page, "recipes.md": recipes_page}


def main() -> None:
    stale = [name for name, page in PAGES.items() if not is_current(DOCS / name, page())]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date: {', '.join(stale)}; run: make docs" if stale else 0)
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


main()
