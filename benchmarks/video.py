"""How much memory `mien predict` needs over a long video, and how fast it reads one. Writes one CSV.

A face moves over a changing background for as long as asked; the process that reads it is watched from outside.

    python benchmarks/video.py MODEL --photo FILE [--minutes 10] [--every 5]      writes results/video.csv
"""

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from mien.machine import describe_machine
from tables import write_table

RESULTS = Path(__file__).parent / "results" / "video.csv"
WIDTH, HEIGHT, FRAMES_A_SECOND = 640, 480, 25
PARTS = 10  # of the time it takes: memory is compared between them
PAUSE = 0.2  # seconds between two looks at the process


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("model", help="a name or a file, as `mien predict --model` takes it")
    parser.add_argument("--photo", required=True, help="a portrait")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        frames = round(arguments.minutes * 60 * FRAMES_A_SECOND)
        draw_video(video, cv2.imread(arguments.photo), frames)
        seconds, read, resident = watch(video, arguments.model, arguments.every)
    write_results(list(rows(arguments, frames, seconds, read, resident)))


def draw_video(path: Path, portrait, frames: int) -> None:
    """The portrait wanders in circles over stripes that move too."""
    face = cv2.resize(portrait, (240, 240), interpolation=cv2.INTER_AREA)
    stripes = np.tile((np.arange(WIDTH) % 128).astype(np.uint8), (HEIGHT, 1))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FRAMES_A_SECOND, (WIDTH, HEIGHT))
    for number in range(frames):
        picture = np.repeat(np.roll(stripes, number, axis=1)[..., np.newaxis], 3, axis=2)
        x = round(200 + 190 * np.sin(number / 70))
        y = round(120 + 110 * np.cos(number / 110))
        picture[y : y + 240, x : x + 240] = face
        writer.write(picture)
    writer.release()


def watch(video: Path, model: str, every: int) -> tuple[float, int, list[float]]:
    """Seconds it took, frames read, and megabytes resident at each look."""
    words = ["predict", str(video), "--model", model, "--every", str(every), "--jsonl"]
    printed = video.with_suffix(".jsonl")
    began, resident = time.perf_counter(), []
    with printed.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "mien.cli", *words], stdout=out)
        while process.poll() is None:
            resident.append(megabytes(process.pid))
            time.sleep(PAUSE)
    if process.returncode:
        sys.exit(f"mien predict ended with {process.returncode}")
    return time.perf_counter() - began, len(printed.read_text().splitlines()), resident


def megabytes(pid: int) -> float:
    """What the process holds in memory now; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3


def rows(arguments, frames: int, seconds: float, read: int, resident: list[float]):
    parts = np.array_split(np.array(resident), PARTS)
    yield "video", "frames", frames
    yield f"every {arguments.every}", "frames read", read
    yield "speed", "frames read a second", round(read / seconds, 1)
    for number, part in enumerate(parts, 1):
        yield f"tenth {number} of the time", "MB resident, median", round(median(part))
    yield "all of it", "MB resident at most", round(max(resident))


def write_results(table: list[tuple[str, str, float]]) -> None:
    machine = describe_machine()
    constant = {name: machine[name] for name in ("processor", "cores", "git_commit", "started")}
    write_table(
        RESULTS, [{"what": what, "figure": figure, "value": value, **constant} for what, figure, value in table]
    )
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
