"""How fast and how well models read faces, beside the PyPI package `fer`, in one run. Writes one CSV.

Sides take turns, round by round, each in processes of its own, so that a noisy machine is noisy for all. `fer` has an
environment of its own (--fer its Python; made at .venv-fer where none is given, several GB); where that cannot be had,
its rows are missing and the others are written. Faces are FER2013's test images, ready cropped.

    python benchmarks/predict.py MODEL.onnx … --photo FILE [--data DIR] [--fer PYTHON]     writes results/predict.csv
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "predict.csv"
ENVIRONMENT = Path(__file__).parents[1] / ".venv-fer"
FER = ("fer==25.10.3", "setuptools<81", "opencv-contrib-python<5")  # it needs pkg_resources and OpenCV's cascades
CORES = (1, 2)
UNITS = {
    "faces/s": "batched",
    "ms a face": "one by one",
    "ms a photo": "found and read",
    "MB": "resident at most",
    "s": "from a shell, cold",
    "s to import": "from a shell, cold",
    "accuracy": "of the same faces",
}
Figures = dict[str, float]  # by unit


def main() -> None:
    arguments = parse()
    if arguments.child:
        print(json.dumps(CHILDREN[arguments.child](arguments)))
        return
    sides: dict[str, tuple[str, str]] = {Path(model).stem: ("mien", model) for model in arguments.models}
    pythons = {"mien": sys.executable, "fer": find_fer(arguments.fer)}
    if pythons["fer"]:
        sides |= {"fer": ("fer", "0"), "fer, its own margin": ("fer", "10")}
    with tempfile.TemporaryDirectory() as folder:
        faces = write_faces(arguments, Path(folder) / "faces.npz")
        rounds = [
            measure(name, kind, model, pythons[kind], cores, faces, arguments)
            for _ in range(arguments.rounds)
            for cores in CORES
            for name, (kind, model) in sides.items()
        ]
    write_results(list(rows(rounds, sides)))


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("models", nargs="*", help="files of `mien export`; the first is set beside fer's")
    parser.add_argument("--photo", required=True)
    parser.add_argument("--data", help="FER2013, or drawn")
    parser.add_argument("--faces", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fer", help="the Python of an environment with fer; none leaves it out")
    for name in ("--child", "--cores", "--npz"):  # what this script says to itself in another process
        parser.add_argument(name, help=SUPPRESS)
    return parser.parse_args()


def find_fer(python: str | None) -> str:
    """The Python of an environment with fer, made if need be; "" where there is none, and standard error says why."""
    if python == "none":
        return ""
    try:
        if python is None and not ENVIRONMENT.exists():
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            install = [ENVIRONMENT / "bin" / "pip", "install", "--quiet", *FER]
            subprocess.run(install, check=True)
        found = python or str(ENVIRONMENT / "bin" / "python")
        subprocess.run([found, "-c", "from fer.fer import FER; FER()"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"fer is left out: {error}", file=sys.stderr)
        return ""
    return found


def write_faces(arguments: Namespace, path: Path) -> Path:
    """Test images for the processes that are measured."""
    import numpy as np

    from mien.data.fetch import open_data

    test = open_data(arguments.data).test
    chosen = np.random.default_rng(0).permutation(len(test))[: arguments.faces]
    names = np.array(test.classes)[test.labels[chosen]]
    np.savez(path, images=test.images[chosen], names=names)
    return path


def measure(
    name: str, kind: str, model: str, python: str, cores: int, faces: Path, arguments: Namespace
) -> tuple[str, int, Figures]:
    """One side's figures on so many cores: those its own process takes, and how long it takes to begin."""
    words = ["--child", kind, "--photo", arguments.photo, "--npz", str(faces), "--cores", str(cores), model]
    figures: Figures = json.loads(run([python, __file__, *words], cores).splitlines()[-1])
    cold = {
        "mien": [python, "-m", "mien.cli", "predict", arguments.photo, "--model", model, "--jsonl"],
        "fer": [python, "-c", COLD_FER, arguments.photo],
    }
    figures["s"] = seconds(lambda: run(cold[kind], cores), times=1)
    figures["s to import"] = seconds(lambda: run([python, "-c", IMPORTS[kind]], cores), times=1)
    print(f"{name}, {cores} cores: {figures}", file=sys.stderr)
    return name, cores, figures


IMPORTS = {"mien": "import mien", "fer": "from fer.fer import FER"}
COLD_FER = "import sys, cv2; from fer.fer import FER; print(FER().detect_emotions(cv2.imread(sys.argv[1])))"


def run(command: list[str], cores: int) -> str:
    """What a command prints, kept to so many cores where the system can."""
    keep = (lambda: os.sched_setaffinity(0, range(cores))) if hasattr(os, "sched_setaffinity") else None
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=keep)
    return done.stdout.decode()


def rows(rounds: list[tuple[str, int, Figures]], sides: dict[str, tuple[str, str]]) -> Iterator[dict[str, object]]:
    """A row for each side, number of cores and unit; then each model's ratio to fer in the same rounds."""
    for cores in CORES:
        for unit, what in UNITS.items():
            values = {
                name: [figures[unit] for who, at, figures in rounds if (who, at) == (name, cores)] for name in sides
            }
            for name, series in values.items():
                yield {"side": name, "what": what, "cores": cores, "unit": unit, **spread(series)}
            for name, (kind, _) in sides.items():
                if kind == "mien" and "fer" in sides:
                    ratios = [ours / theirs for ours, theirs in zip(values[name], values["fer"], strict=True)]
                    yield {
                        "side": f"{name} / fer",
                        "what": what,
                        "cores": cores,
                        "unit": f"ratio of {unit}",
                        **spread(ratios),
                    }


def spread(values: list[float]) -> dict[str, float]:
    ends = {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {**{name: float(f"{value:.4g}") for name, value in ends.items()}, "rounds": len(values)}


def write_results(table: list[dict[str, object]]) -> None:
    from mien.machine import processor
    from tables import write_table

    constant = {"processor": processor(), "python": platform.python_version()}
    write_table(RESULTS, [{**row, **constant} for row in table])
    print(RESULTS.read_text(encoding="utf-8"))


# What follows runs in processes of its own, that of fer without mien.


def time_mien(arguments: Namespace) -> Figures:
    import numpy as np
    from PIL import Image

    import mien
    from mien.inference.faces import find_detector

    with np.load(arguments.npz) as faces:
        images, names = faces["images"], faces["names"]
    classifier, detector = mien.load(arguments.models[0], threads=int(arguments.cores)), find_detector("haar")
    photo = np.asarray(Image.open(arguments.photo).convert("RGB"))
    found = np.array(classifier.classes)[classifier.predict(images).argmax(axis=1)]
    return {
        "faces/s": len(images) / seconds(lambda: classifier.predict(images), times=3),
        "ms a face": 1000 * seconds(lambda: classifier.predict(images[:1]), times=300),
        "ms a photo": 1000 * seconds(lambda: classifier.read(photo, detector=detector), times=5),
        "accuracy": float(np.mean(found == names)),
        "MB": resident(),
    }


SPELLED = {"disgust": "disgusted", "fear": "fearful", "surprise": "surprised"}


def time_fer(arguments: Namespace) -> Figures:
    """fer with so many pixels of margin around a face: 10 are its default, 0 is right for images that are faces already.

    Batches go to its classifier directly, past its Python, since it takes no more than one picture at a time.
    """
    import cv2
    import numpy as np
    from fer import fer

    with np.load(arguments.npz) as faces:
        images, names = faces["images"], faces["names"]
    margin = int(arguments.models[0])
    reader = fer.FER(offsets=(margin, margin))
    pictures = [cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in images]
    whole = [(0, 0, 48, 48)]

    def classify() -> None:
        batch = np.stack([cv2.resize(image[..., 0], (64, 64)) for image in images]).astype(np.float32)
        reader._classify_emotions((batch / 255 - 0.5) * 2)

    readings = [reader.detect_emotions(picture, whole)[0]["emotions"] for picture in pictures]
    found = np.array([SPELLED.get(best, best) for best in (max(shares, key=shares.get) for shares in readings)])
    photo = cv2.imread(arguments.photo)
    return {
        "faces/s": len(images) / seconds(classify, times=3),
        "ms a face": 1000 * seconds(lambda: reader.detect_emotions(pictures[0], whole), times=300),
        "ms a photo": 1000 * seconds(lambda: reader.detect_emotions(photo), times=5),
        "accuracy": float(np.mean(found == names)),
        "MB": resident(),
    }


CHILDREN: dict[str, Callable[[Namespace], Figures]] = {"mien": time_mien, "fer": time_fer}


def seconds(call: Callable[[], object], *, times: int) -> float:
    """How long a call takes: the median, after one that does not count."""
    call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def resident() -> float:
    """The most memory this process has held, MB."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
