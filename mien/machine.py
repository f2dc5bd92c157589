"""What a figure depends on besides code and data: versions, hardware, commit and time."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("mien", "keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "onnxruntime", "numpy", "pillow")


def describe_machine() -> dict[str, Any]:
    """Plain JSON values; of PACKAGES those that are installed."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores(),
        "versions": {name: version for name in PACKAGES if (version := installed_version(name))},
        "git_commit": git_commit(),
    }


def installed_version(package: str) -> str | None:
    """The version installed, without importing it; None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """How many cores this process may use, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # where the system can keep a process to some of its cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def git_commit() -> str | None:
    """The commit of the source in use, with "+" when files differ from it; None outside a checkout of mien."""
    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # an environment may lie in somebody's repository
        return git("describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*words: str) -> str:
    """What git says of the folder of this file."""
    done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()
