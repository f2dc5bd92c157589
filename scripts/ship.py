"""Put a finished run's network into mien/inference/weights/, in one precision, with its card.

    python scripts/ship.py RUN NAME --precision int8 [--data DIR]

Afterwards benchmarks/shipped.py judges it on the test images and writes its figures into the card.
"""

import json
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from mien.cli import choose_backend

choose_backend("tensorflow")

from mien.errors import RunError
from mien.files import replacing, write_json
from mien.inference.classifier import WEIGHTS
from mien.training.export import export_run

LICENCE = "MIT"
ABOUT = {
    "data": "the training images of FER2013 (Goodfellow et al. 2013), which belong to their owners; no other images",
    "use": "research and play. An expression is what annotators called it, not what a person feels; inferring emotions "
    "at work or in education is prohibited in the EU (AI Act, Art. 5(1)(f))",
}


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", help="what `mien predict --model` is to call it")
    parser.add_argument("--precision", default="fp16", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--data", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        exports = export_run(arguments.run, out=Path(folder), name=arguments.name, licence=LICENCE, data=arguments.data)
        (chosen,) = (export for export in exports if export.precision == arguments.precision)
        if chosen.refused:
            raise RunError(f"{chosen.path.name} is refused: {chosen.refused}")
        print(put(chosen.path, WEIGHTS / f"{arguments.name}.onnx"))


def put(exported: Path, target: Path) -> Path:
    """Copy a file and its card; in between there is a file without a card, which nothing loads."""
    card = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    target.with_suffix(".json").unlink(missing_ok=True)
    with replacing(target) as draft:
        draft.write_bytes(exported.read_bytes())
    write_json(target.with_suffix(".json"), {**card, **ABOUT, "name": target.stem, "path": target.name})
    return target


if __name__ == "__main__":
    main()
