"""Whether a run's exported files say what its network says in Keras, on every test image. Writes one CSV.

python benchmarks/parity.py RUN … --data DIR            writes their rows of results/parity.csv
"""

import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from mien.cli import choose_backend

choose_backend("tensorflow")

import numpy as np

from mien.inference.classifier import load
from mien.training.export import export_run
from mien.training.judged import split_of
from mien.training.runs import Run, describe_environment
from mien.training.trained import load_trained
from tables import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "parity.csv"


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", default=None)
    arguments = parser.parse_args()
    environment = describe_environment()
    constant = {name: environment[name] for name in ("backend", "processor", "git_commit", "started")}
    rows = [{**row, **constant} for run in arguments.runs for row in compare(Run.open(run), arguments.data)]
    compared = {row["run"] for row in rows}
    write_table(RESULTS, [*(row for row in read_table(RESULTS) if row["run"] not in compared), *rows])
    print(RESULTS.read_text(encoding="utf-8"))


def compare(run: Run, data: str | None) -> Iterator[dict[str, object]]:
    """A row for Keras and one for each file, before calibration."""
    test = split_of(run, data=data).test
    trained = load_trained(run)
    keras_says = trained.predict(test.images)
    yield describe(run, "keras", keras_says, keras_says, test.labels, run.model_path)
    with tempfile.TemporaryDirectory() as folder:  # the run's own files may have been exported otherwise
        for export in export_run(run.path, out=Path(folder), data=data):
            if export.refused is None:
                classifier = load(export.path)
                said = np.concatenate([classifier.run(images) for images in np.array_split(test.images, 64)])
                yield describe(run, export.precision, said, keras_says, test.labels, export.path)


def describe(run: Run, what: str, said, keras_says, labels, path: Path) -> dict[str, object]:
    found, expected = said.argmax(axis=1), keras_says.argmax(axis=1)
    return {
        "run": run.recipe.name,
        "file": what,
        "kilobytes": round(path.stat().st_size / 1000),
        "images": len(labels),
        "accuracy": round(float(np.mean(found == labels)), 4),
        "same_label_as_keras": round(float(np.mean(found == expected)), 4),
        "largest_difference": float(f"{np.abs(said - keras_says).max():.2g}"),
    }


if __name__ == "__main__":
    main()
