"""Tables of benchmarks/results/: rows in, CSV out, and back."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from mien.files import replacing


def read_table(path: Path) -> list[dict[str, str]]:
    """The table's rows; none where there is no such file yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Replace the table by `rows`, whose keys are the columns."""
    first, *others = rows
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, first, lineterminator="\n")
        writer.writeheader()
        writer.writerows([first, *others])
