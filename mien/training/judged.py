"""A folder in, what is judged out: a finished run, or an ensemble of several, on the split that it was made with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.data.dataset import untracked
from mien.data.fetch import open_data
from mien.data.splits import Splits, split
from mien.emotions import Track
from mien.errors import RunError
from mien.models.costs import describe_costs
from mien.training.ensemble import FILE, Ensemble, load_ensemble
from mien.training.runs import Run
from mien.training.trained import TrainedNetwork, load_trained
from mien.training.trainer import check_data


@dataclass(frozen=True, eq=False)
class Judged:
    """A classifier, and the runs that it is made of: one, or each member's."""

    name: str
    classifier: TrainedNetwork | Ensemble
    runs: tuple[Run, ...]

    @property
    def networks(self) -> tuple[TrainedNetwork, ...]:
        return (self.classifier,) if isinstance(self.classifier, TrainedNetwork) else self.classifier.members

    @property
    def is_single(self) -> bool:
        return len(self.networks) == 1

    def splits(self, *, data: str | None = None, track: Track = untracked) -> Splits:
        """What it was trained, validated and is to be tested on; of `data`, where the images lie elsewhere now.

        Raises RunError where the images it learned from are others: it could not be calibrated on them.
        """
        splits = split_of(self.runs[0], data=data, track=track)
        check_data(splits, self.runs[0])
        return splits

    def provenance(self) -> dict[str, Any]:
        """What pins its figures down: recipes, costs, split and where each was trained."""
        recipes = [run.recipe.to_dict() for run in self.runs]
        environments = [run.environment for run in self.runs]
        costs = [describe_costs(each.network) for each in self.networks]
        return {
            "recipe": recipes[0] if self.is_single else {"ensemble": recipes},
            "costs": {name: sum(cost[name] for cost in costs) for name in costs[0]},
            "split": self.runs[0].split,
            "trained with": environments[0] if self.is_single else {"ensemble": environments},
        }


def open_judged(path: Path) -> Judged:
    """The finished run or the ensemble at `path`."""
    if (path / FILE).exists():
        runs, ensemble = load_ensemble(path)
        return Judged(f"ensemble of {len(runs)}", ensemble, runs)
    run = Run.open(path)
    return Judged(run.recipe.name, load_trained(run), (run,))


def source_of(run: Run) -> str:
    """Where the run's images came from. Raises RunError for a run that is a part of another's work."""
    source: str | None = run.split.get("data")
    if source is None:
        raise RunError(
            f"{run.path} learned all folds but one, to be asked about that one; expected a run that `mien train` left"
        )
    return source


def split_of(run: Run, *, data: str | None = None, track: Track = untracked) -> Splits:
    """The splits that `run` was made with. Whoever needs the same pixels compares their hashes with `run.split`."""
    source = source_of(run)
    dataset = open_data(data or source, skip_bad=run.split["skip_bad"], track=track)
    return split(dataset, validation_share=run.recipe.validation_share, seed=run.recipe.split_seed)
