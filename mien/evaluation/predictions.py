"""What a model said of test images, kept in one file, so that another model can be set against it image by image."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mien.emotions import Labels, Names, Probabilities
from mien.errors import DataError
from mien.files import replacing

REMEDY = "evaluate it with: mien evaluate"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of test images, in one order; test_sha256 is `Dataset.sha256` of those images."""

    names: Names
    labels: Labels
    probabilities: Probabilities
    test_sha256: str


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write one .npz file, which `load_predictions` reads back."""
    with replacing(path) as draft:
        np.savez_compressed(
            draft,
            names=predictions.names,
            labels=predictions.labels,
            probabilities=predictions.probabilities,
            test_sha256=np.array(predictions.test_sha256),
        )


def load_predictions(path: Path) -> Predictions:
    """What `save_predictions` kept. Raises DataError where `path` is missing or holds something else."""
    try:
        with np.load(path) as arrays:
            return Predictions(
                names=arrays["names"],
                labels=arrays["labels"],
                probabilities=arrays["probabilities"],
                test_sha256=str(arrays["test_sha256"]),
            )
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an evaluated run: {REMEDY} {path.parent}") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); expected predictions: {REMEDY} {path.parent}") from error
