"""Finished runs in, one classifier out: the mean of their calibrated logits."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.emotions import Images, Probabilities
from mien.errors import RunError
from mien.evaluation.calibration import Calibration, from_logits, to_logits
from mien.files import seen_from, write_json
from mien.training.runs import Run
from mien.training.trained import TrainedNetwork, load_trained

FILE = "ensemble.json"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks of one split of the data, and how each is calibrated."""

    members: tuple[TrainedNetwork, ...]
    calibrations: tuple[Calibration, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.members[0].classes

    def predict(self, images: Images) -> Probabilities:
        """Probabilities float32 (n, classes) for uint8 images (n, 48, 48, 1): softmax of the mean log-probability."""
        calibrated = [
            calibration.apply(member.predict(images))
            for member, calibration in zip(self.members, self.calibrations, strict=True)
        ]
        return from_logits(np.mean([to_logits(each) for each in calibrated], axis=0))


def save_ensemble(folder: Path, runs: tuple[Run, ...], ensemble: Ensemble) -> None:
    """Write ensemble.json: the members' folders, as seen from `folder`, and their calibrations."""
    write_json(
        folder / FILE,
        {
            "members": [
                {"run": seen_from(folder, run.path), "calibration": calibration.to_dict()}
                for run, calibration in zip(runs, ensemble.calibrations, strict=True)
            ]
        },
    )


def load_ensemble(folder: Path) -> tuple[tuple[Run, ...], Ensemble]:
    """The members' runs and the ensemble that ensemble.json in `folder` names."""
    path = folder / FILE
    try:
        members = json.loads(path.read_text(encoding="utf-8"))["members"]
        runs = tuple(Run.open(folder / member["run"]) for member in members)
        calibrations = tuple(Calibration.from_dict(member["calibration"]) for member in members)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error!r}); expected a file of `mien ensemble`") from error
    check_same_splits(runs)
    return runs, Ensemble(tuple(map(load_trained, runs)), calibrations)


def check_same_splits(runs: tuple[Run, ...]) -> None:
    """Raise RunError unless no run learnt from another's validation images: they all have one split."""
    if len(runs) < 2:
        raise RunError(f"an ensemble of {len(runs)}; expected two runs or more")
    first, *others = ({part: run.split[part]["sha256"] for part in ("train", "validation", "test")} for run in runs)
    for run, hashes in zip(runs[1:], others, strict=True):
        if different := [part for part in first if hashes[part] != first[part]]:
            raise RunError(
                f"{run.path} has other {' and '.join(different)} images than {runs[0].path}; expected runs of one split: "
                "train them with the same data, split_seed and validation_share"
            )
