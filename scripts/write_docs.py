"""Write the generated pages of docs/, and a table of README.md; with --check, say which are out of date instead."""

import csv
import json
import os
import sys
from pathlib import Path
from statistics import fmean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mien.cli import app
from mien.inference.classifier import WEIGHTS, shipped_models
from mien.recipes import RECIPES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


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
    lines = ["## Measured", "", INTRODUCTION, ""]
    for setting, text in SETTINGS.items():
        if chosen := [row for row in rows if row["setting"] == setting]:
            reported = REPORTED if setting == "full" else ()
            lines += [f"### {setting}", "", text, "", *ablation_table(chosen, reported), "", hardware(chosen), ""]
    unmeasured = sorted(set(RECIPES) - {row["recipe"].split()[0] for row in rows})
    if unmeasured:
        lines += [f"Not measured: {', '.join(unmeasured)}.", ""]
    return [*lines, *wrong_order(rows)]


INTRODUCTION = (
    "Test figures on the 7,178 images, single view, uncalibrated, from `benchmarks/results/ablation.csv`; "
    "`python benchmarks/ablation.py` writes it. Mean over seeds (lowest–highest). Minutes are of a machine that did other "
    "work too."
)
REPORTED = (
    "| the original's baseline, as it reported | – | 0.58 | 0.54 | 0.27 | – | – | – | – | – |",
    "| the original's improved, as it reported | – | 0.60–0.61 | – | 0.55 | – | – | – | – | – |",
)
SETTINGS = {
    "full": (
        "As the recipes say, but for the choices named behind them. ResNet50 and EfficientNet want ImageNet's weights, which "
        "were not at hand: from scratch, over an epoch or two, they show what an epoch costs, not what they can reach."
    ),
    "narrow": (
        "Each idea on the compact network (the transformer on its own) for 10 epochs, 3·10⁻³ at most on a cosine, batches "
        "of 128, bfloat16: what an idea is worth beside the same network without it, the row vgg; not what it can reach."
    ),
    "levers": (
        "The tiny recipe over 8 epochs: whole, without some of its choices, and with others in their place or beside them."
    ),
}


def wrong_order(rows: list[dict[str, str]]) -> list[str]:
    """How far validation flatters when copies are made before the split."""
    lines = ["## Split first, then oversample", "", WRONG_ORDER, "", FLATTERY, "|---" * 7 + "|"]
    for name in ("vgg_oversampled", "oversampled before the split"):
        chosen = [row for row in rows if (row["recipe"], row["setting"]) == (name, "narrow")]
        if not chosen:
            return []
        cells = []
        for figure in ("accuracy", "disgusted_recall"):
            seen = [(float(row[f"validation_{figure}"]), float(row[figure])) for row in chosen]
            known, fresh = zip(*seen, strict=True)
            cells += [spread(list(values), figure) for values in (known, fresh, [one - two for one, two in seen])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


FLATTERY = (
    "| order | validation accuracy | test accuracy | difference | validation disgusted recall | test disgusted recall "
    "| difference |"
)
WRONG_ORDER = (
    "Copies made before the split lie on both sides of it, and validation asks for what was learnt by heart. The same "
    "training (setting narrow) in both orders; the wrong one is what `mien` refuses."
)
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


def ablation_table(rows: list[dict[str, str]], reported: tuple[str, ...]) -> list[str]:
    lines = [f"| recipe | seeds | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|", *reported]
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


def results_page() -> str:
    """Every measured figure of benchmarks/results/, a section for each file that is there."""
    lines = [
        "# Results",
        "",
        "Written by `make docs` from `benchmarks/results/`; each section names what measures it.",
        "",
    ]
    for name, (title, text, columns) in SECTIONS.items():
        if rows := read_rows(name):
            lines += [f"## {title}", "", text, "", *plain_table(rows, columns), "", *measured_on(rows), ""]
    return "\n".join(lines).rstrip() + "\n"


SECTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "shipped.csv": (
        "Models that come with mien",
        (
            "`python benchmarks/shipped.py` judges the shipped files with ONNX Runtime alone, calibrated as they come. kaggle: "
            "all 7,178 test images, validation carved from the training images; official: PrivateTest. Without duplicates: "
            "test images that occur in training are left out. mirror and warps: test-time augmentation, the image and its "
            "mirror image, or ten views of it. Intervals are 95 %. Average precision of disgusted, and its largest recall at a "
            "precision of 0.7 or more, are over all thresholds on its probability; the points in use were set on validation."
        ),
        (
            *("model", "protocol", "without_duplicates", "views", "operating_point", "images"),
            *("accuracy", "macro_f1", "disgusted_recall", "disgusted_precision", "fearful_recall", "ece", "nll"),
            *("disgusted_average_precision", "disgusted_recall_at_precision_70"),
        ),
    ),
    "parity.csv": (
        "Files against Keras",
        (
            "`python benchmarks/parity.py` sets each exported file beside its network in Keras on all test images, "
            "uncalibrated."
        ),
        ("run", "file", "kilobytes", "images", "accuracy", "same_label_as_keras", "largest_difference"),
    ),
    "time_to_accuracy.csv": (
        "Time to accuracy",
        (
            "`python benchmarks/time_to_accuracy.py`: the whole training of the baseline, which stops by itself and has its "
            "goal on validation images, and of the sprint, which has its goal on test images. Times what an epoch takes, "
            "measured for both in one run."
        ),
        (
            "recipe",
            "goal",
            "reached",
            "epochs",
            "seconds_per_epoch",
            "minutes",
            "times_as_soon",
            "test_accuracy",
        ),
    ),
    "train_step.csv": (
        "Training speed",
        "`make bench` trains the baseline beside the script it grew from, epoch by epoch in turns.",
        ("what", "unit", "median", "lowest", "highest", "rounds"),
    ),
    "predict.csv": (
        "Reading speed",
        "`python benchmarks/predict.py` beside the PyPI package fer, in turns, each in a process of its own.",
        ("side", "what", "cores", "unit", "median", "lowest", "highest", "rounds"),
    ),
    "framing.csv": (
        "Framing",
        "`python benchmarks/framing.py`: how FER2013's frame lies on the cascades' boxes, and what a crop costs.",
        ("what", "figure", "value", "faces"),
    ),
    "video.csv": (
        "Long videos",
        "`python benchmarks/video.py` watches the memory of `mien predict` over a generated video, 640×480.",
        ("what", "figure", "value"),
    ),
}
INTERVALS = ("accuracy", "macro_f1")


def plain_table(rows: list[dict[str, str]], columns: tuple[str, ...]) -> list[str]:
    lines = [f"| {' | '.join(column.replace('_', ' ') for column in columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {' | '.join(cell(row, column) for column in columns)} |" for row in rows]


def cell(row: dict[str, str], column: str) -> str:
    if column in INTERVALS and f"{column}_low" in row:
        return f"{row[column]} ({row[f'{column}_low']}–{row[f'{column}_high']})"
    return row[column]


def measured_on(rows: list[dict[str, str]]) -> list[str]:
    found = {f"{row['processor']}, {row.get('cores', 'all')} cores" for row in rows if "processor" in row}
    return [f"Measured on: {'; '.join(sorted(found))}."] if found else []


def readme() -> str:
    """README.md as it is, with the table of the models that come with mien between its two marks."""
    above, begin, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- models, by make docs -->\n")
    _, end, below = rest.partition("<!-- end -->\n")
    return "".join([above, begin, *(f"{line}\n" for line in models_table()), end, below])


def models_table() -> list[str]:
    """The shipped models' figures on all 7,178 test images."""
    found = {
        (row["model"], row["views"], row["without_duplicates"]): row
        for row in read_rows("shipped.csv")
        if (row["protocol"], row["operating_point"]) == ("kaggle", "accuracy")
    }
    lines = [
        "| model | file | accuracy | over ten views | without copies | macro-F1 | calibration error |",
        "|---" * 7 + "|",
    ]
    for name in shipped_models():
        size = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))["bytes"] / 1e6
        one, ten, unseen = (found[name, *key] for key in (("single", "False"), ("warps", "False"), ("single", "True")))
        accuracies = " | ".join(f"{100 * float(row['accuracy']):.2f} %" for row in (one, ten, unseen))
        lines.append(
            f"| {name} | {size:.1f} MB | {accuracies} | {float(one['macro_f1']):.3f} | {100 * float(one['ece']):.1f} % |"
        )
    return lines


PAGES = {
    ROOT / "README.md": readme,
    ROOT / "docs" / "cli.md": cli_page,
    ROOT / "docs" / "recipes.md": recipes_page,
    ROOT / "docs" / "results.md": results_page,
}


def main() -> None:
    stale = [path for path, page in PAGES.items() if not is_current(path, page())]
    if "--check" in sys.argv[1:]:
        sys.exit(f"out of date: {', '.join(path.name for path in stale)}; run: make docs" if stale else 0)
    for path in stale:
        path.write_text(PAGES[path](), encoding="utf-8")


def is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


main()
