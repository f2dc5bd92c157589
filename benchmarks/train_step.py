"""How many images a second `mien train baseline` learns from, beside the script it grew from. Writes one CSV.

Both sides train the same network on the same files, epoch by epoch in turns, so that a noisy machine is noisy for both.
Each has a process of its own, set up as its user would have it: the script's as Python starts it, the other's by mien.
Machines pause and other work comes between, which only ever makes a round longer: the fastest rounds tell most.
Run: make bench, or python benchmarks/train_step.py --data DIR --images 1280 --rounds 12
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"  # the script it grew from knows no other
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if multiprocessing.current_process().name == "mien train baseline":
    from mien.cli import choose_backend

    choose_backend("tensorflow")  # before TensorFlow is imported, as the command line does

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from PIL import Image

from mien.data.dataset import Dataset
from mien.data.fetch import open_data
from mien.recipes import find_recipe
from mien.training.runs import describe_environment
from mien.training.trainer import build_batches, compile_for, targets_of, wrap
from tables import write_table

RESULTS = Path(__file__).parent / "results" / "train_step.csv"
Epoch = Callable[[], None]
Faces = Dataset | Path  # arrays, or the folder a class that a directory loader reads
Side = tuple[Callable[..., Epoch], Faces]


def main() -> None:
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", default=None)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    training = open_data(arguments.data).training
    chosen = np.random.default_rng(0).permutation(len(training))[: arguments.images]
    with tempfile.TemporaryDirectory() as folder:
        faces = training.take(np.sort(chosen))
        write_tree(faces, Path(folder))
        sides = {"seed script": (seed_epoch, Path(folder)), "mien train baseline": (mien_epoch, faces)}
        write_results(measure(sides, len(faces), arguments.rounds))


def write_tree(faces: Dataset, folder: Path) -> None:
    """The folder a class that the script's directory loader reads."""
    for row, (label, image) in enumerate(zip(faces.labels, faces.images, strict=True)):
        path = folder / faces.classes[label] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)


def measure(sides: dict[str, Side], images: int, rounds: int) -> list[dict[str, str | float]]:
    """Images a second of each side, median of `rounds`; the first epoch of each, which compiles, does not count."""
    processes = {name: start(name, *side) for name, side in sides.items()}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, process in processes.items():
            process.send("epoch")
            seconds = process.recv()
            if number:
                speeds[name].append(images / seconds)
                print(f"round {number}: {name} {speeds[name][-1]:.0f} images/s", file=sys.stderr)
    for process in processes.values():
        process.send(None)
    ratios = [ours / theirs for theirs, ours in zip(*speeds.values(), strict=True)]
    rows: list[dict[str, str | float]] = [
        {"what": name, "unit": "images/s", **spread(values)} for name, values in speeds.items()
    ]
    theirs, ours = (max(values) for values in speeds.values())
    return [
        *rows,
        {"what": "mien / seed", "unit": "ratio of the same round", **spread(ratios)},
        {"what": "mien / seed", "unit": "ratio of the fastest rounds", **spread([ours / theirs])},
    ]


def start(name: str, build: Callable[..., Epoch], faces: Faces) -> Connection:
    """A process that trains an epoch for each word it is sent, answers with the seconds it took, and ends on None."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=train_on_demand, args=(there, build, faces), name=name, daemon=True).start()
    there.close()
    return here


def train_on_demand(orders: Connection, build: Callable[..., Epoch], faces: Faces) -> None:
    epoch = build(faces)
    while orders.recv():
        began = time.perf_counter()
        epoch()
        orders.send(time.perf_counter() - began)


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
        "rounds": len(values),
    }


def write_results(rows: list[dict[str, str | float]]) -> None:
    environment = describe_environment()
    constant = {name: environment[name] for name in ("backend", "processor", "cores", "git_commit", "started")}
    write_table(RESULTS, [{**row, **constant} for row in rows])
    print(RESULTS.read_text(encoding="utf-8"))


def mien_epoch(faces: Dataset) -> Epoch:
    """One epoch as `mien train baseline` runs it."""
    recipe = find_recipe("baseline")
    model = wrap(recipe, classes=len(faces.classes))
    compile_for(model, recipe, learning_rate=recipe.learning_rate)
    batches = build_batches(recipe, faces, targets_of(faces))
    return lambda: model.fit(batches, shuffle=False, verbose=0)


def seed_epoch(folder: Path) -> Epoch:
    """One epoch as the original script runs it: directory loader, random layers in the network, `fit`."""
    loader = keras.utils.image_dataset_from_directory(
        folder, image_size=(48, 48), color_mode="grayscale", batch_size=64, seed=42, verbose=False
    )
    counts = [len(list((folder / name).iterdir())) for name in loader.class_names]
    weights = {label: sum(counts) / (len(counts) * count) for label, count in enumerate(counts)}
    batches = loader.shuffle(5000).prefetch(tf.data.AUTOTUNE)
    model = seed_network()
    return lambda: model.fit(batches, class_weight=weights, verbose=0)


def seed_network() -> keras.Model:
    inputs = keras.Input((48, 48, 1))
    x = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomTranslation(0.05, 0.05),
        ]
    )(inputs)
    x = layers.Rescaling(1.0 / 255)(x)
    for filters in (32, 64, 128):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization()(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.2)(x)
    model = keras.Model(inputs, layers.Dense(7, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main()
