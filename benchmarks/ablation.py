"""What each idea is worth: recipes × seeds in, one row a run in benchmarks/results/ablation.csv.

Each run's test figures by class go to ablation_classes.csv beside it.

Run: python benchmarks/ablation.py --data DIR                      every idea on a small network, for minutes each
     python benchmarks/ablation.py --data DIR --setting levers     what the tiny recipe loses without each of its choices
     python benchmarks/ablation.py --data DIR --setting full baseline improved --seeds 42      as the recipes say

An idea is a recipe's name, with any of its choices changed behind it: "tiny mixup=0.1". Recipes that learn from votes want
--votes FILE.

Finished rows are skipped and a stopped training goes on where it was, so the same command may be given again. Runs lie
in runs/ablation/SETTING/. Test figures are for reporting; whoever chooses among recipes looks at validation alone.
"""

import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from rich.console import Console

from mien.data.balance import oversample
from mien.data.dataset import Dataset
from mien.data.fetch import name_source, open_data
from mien.data.splits import Splits, split
from mien.evaluation.metrics import Figures, measure
from mien.recipes import find_recipe
from mien.training.recipe import Recipe
from mien.training.runs import Run
from mien.training.session import train_aloud
from mien.training.trained import load_trained
from tables import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "ablation.csv"
CLASSES = RESULTS.with_name("ablation_classes.csv")
RUNS = Path("runs") / "ablation"
WRONG_ORDER = "oversampled before the split"
IDEAS = (
    "vgg",
    "vgg_oversampled",
    "vgg_focal",
    "improved",
    "smooth",
    "smooth_focal",
    "stronger_classes",
    "curriculum",
    WRONG_ORDER,
    "votes",
)
LEVERS = (
    "tiny",
    "tiny mixup=0.1",
    "tiny erasing=0.1",
    "tiny one_warp=false",
    "tiny label_smoothing=0",
    "tiny optimizer=sgd learning_rate=0.1 weight_decay=5e-3",
    "tiny weight_decay=0",
    "tiny model=compact",
)


def narrow(recipe: Recipe) -> Recipe:
    """The same idea on the compact network, over a few epochs in which the learning rate falls to nothing."""
    return replace(
        recipe,
        model="compact" if recipe.model == "vgg" else recipe.model,
        epochs=10,
        curriculum_epochs=4,
        schedule="cosine",
        warmup_epochs=1,
        learning_rate=3e-3,
        batch_size=128,
        precision="mixed_bfloat16",
    )


def short(recipe: Recipe) -> Recipe:
    """The same recipe over a few epochs."""
    return replace(recipe, epochs=8, warmup_epochs=1, precision="mixed_bfloat16")


SETTINGS: dict[str, Callable[[Recipe], Recipe]] = {"narrow": narrow, "levers": short, "full": lambda recipe: recipe}
DEFAULTS = {"narrow": IDEAS, "levers": LEVERS, "full": IDEAS}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("ideas", nargs="*", metavar="IDEA")
    parser.add_argument("--data", default=None)
    parser.add_argument("--votes", type=Path, default=None)
    parser.add_argument("--setting", default="narrow", choices=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    arguments = parser.parse_args()
    source = name_source(arguments.data)
    dataset = open_data(source)
    possible = [idea for idea in DEFAULTS[arguments.setting] if idea != "votes" or arguments.votes]
    for seed in arguments.seeds:
        for idea in arguments.ideas or possible:
            if not is_done(idea, arguments.setting, seed):
                row, classes = measure_idea(dataset, source, arguments.votes, idea, arguments.setting, seed)
                write_table(CLASSES, [*read_table(CLASSES), *classes])
                write_table(RESULTS, [*read_table(RESULTS), row])


def measure_idea(
    dataset: Dataset, source: str, votes: Path | None, idea: str, setting: str, seed: int
) -> tuple[dict[str, object], list[dict[str, object]]]:
    recipe, splits = prepare(dataset, idea, setting, seed)
    facts = {"data": source, "skip_bad": False, "skipped": [], "notes": [], **splits.to_dict()}
    if votes and recipe.targets == "votes":
        facts["votes"] = str(votes.resolve())
    run = train_or_go_on(recipe, splits, facts, RUNS / setting / f"{re.sub('[ =]', '-', idea)}-{seed}")
    return describe(run, splits, idea, setting)


def prepare(dataset: Dataset, idea: str, setting: str, seed: int) -> tuple[Recipe, Splits]:
    """The recipe, and the images it learns from; in the wrong order, validation holds copies of what is learned."""
    name, *changes = ["vgg_oversampled"] if idea == WRONG_ORDER else idea.split()
    recipe = replace(SETTINGS[setting](find_recipe(name).override(*changes)), seed=seed, split_seed=seed)
    if idea != WRONG_ORDER:
        return recipe, split(dataset, validation_share=recipe.validation_share, seed=seed)
    copied = oversample(dataset.training, class_name=recipe.oversample, target=recipe.oversample_to, seed=seed)
    disguised = replace(copied, names=np.array([f"image {row}" for row in range(len(copied))]))
    torn = split(disguised, validation_share=recipe.validation_share, seed=seed)
    honest = split(dataset, validation_share=recipe.validation_share, seed=seed)
    return replace(recipe, oversample=""), Splits(torn.train, torn.validation, honest.test)


def train_or_go_on(recipe: Recipe, splits: Splits, facts: dict[str, object], path: Path) -> Run:
    """The finished run at `path`: trained now, gone on with, or found there."""
    run = Run.open(path) if (path / "recipe.json").exists() else Run.create(path, recipe, split=facts)
    run.require(recipe)
    return run if run.finished else train_aloud(run, splits, (), Console(stderr=True))


def describe(run: Run, splits: Splits, idea: str, setting: str) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The run's row, and one for each class."""
    classifier = load_trained(run)
    validation, test = (
        measure(part.labels, classifier.predict(part.images), classes=part.classes)
        for part in (splits.validation, splits.test)
    )
    history = run.history()
    which = {"recipe": idea, "setting": setting, "seed": run.recipe.seed}
    return {
        **which,
        **{f"validation_{name}": value for name, value in headline(validation).items()},
        **headline(test),
        "epochs": len(history),
        "best_epoch": 1 + int(np.argmin([row["val_loss"] for row in history])),
        "minutes": round(sum(row["seconds"] for row in history) / 60, 1),
        **{name: run.environment[name] for name in ("backend", "processor", "cores", "git_commit", "started")},
    }, [{**which, **by_class} for by_class in by_classes(test)]


def by_classes(figures: Figures) -> Iterator[dict[str, object]]:
    for one in figures.per_class:
        values = {
            "precision": one.precision and one.precision.value,
            "recall": one.recall and one.recall.value,
            "f1": one.f1,
        }
        yield {
            "class": one.name,
            "images": one.support,
            **{name: value if value is None else round(value, 4) for name, value in values.items()},
        }


def headline(figures: Figures) -> dict[str, float | None]:
    recalls = {each.name: each.recall.value if each.recall else None for each in figures.per_class}
    values = {"accuracy": figures.accuracy.value, "macro_f1": figures.macro_f1.value, "nll": figures.nll}
    return {
        name: value if value is None else round(value, 4)
        for name, value in {
            **values,
            "disgusted_recall": recalls["disgusted"],
            "fearful_recall": recalls["fearful"],
        }.items()
    }


def is_done(idea: str, setting: str, seed: int) -> bool:
    return any(
        (row["recipe"], row["setting"], row["seed"]) == (idea, setting, str(seed)) for row in read_table(RESULTS)
    )


if __name__ == "__main__":
    main()
