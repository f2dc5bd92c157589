"""This computer in; what mien finds on it, what it misses, and the cure for each, out. Imports no heavy package."""

import os
import platform
import shlex
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from mien.data.dataset import cache_folder, fingerprint, locate
from mien.data.fetch import HANDLE
from mien.errors import DataError
from mien.inference.faces import WHEELS, YUNET, YuNet, installed_wheels, opencv_faults
from mien.machine import installed_version

KAGGLE = ("www.kaggle.com", 443)
PATIENCE = 3.0  # seconds to wait for the network
SAME = {  # other packages that bring what one brings
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python-headless": WHEELS,
    "tensorflow-cpu": ("tensorflow",),
}
PARTS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}  # of Keras' backends

State = Literal["ok", "note", "fault"]  # note: works, but not all or not fast; fault: something does not work


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. cure: what to do, empty where all is well."""

    what: str
    state: State
    found: str
    cure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def examine() -> tuple[Finding, ...]:
    """Look at everything that mien depends on."""
    return tuple(finding for check in CHECKS for finding in check())


def check_python() -> Iterator[Finding]:
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("Python", "ok" if fits else "fault", found, "" if fits else "use Python 3.11, 3.12 or 3.13")


def check_packages() -> Iterator[Finding]:
    """What `pip install mien` brings."""
    wanted = [requirement for requirement in requirements() if applies(requirement, extra="")]
    missing, found = look_for(wanted)
    name = f"mien {installed_version('mien')}"
    if missing:
        yield Finding(name, "fault", missing, "run: pip install --upgrade --force-reinstall mien")
    else:
        yield Finding(name, "ok", found)


def check_extras() -> Iterator[Finding]:
    """What `pip install 'mien[…]'` brings, for each extra."""
    for extra in metadata("mien").get_all("Provides-Extra") or []:
        wanted = of_extra(extra)
        missing, found = look_for(wanted)
        what = f"extra {extra}"
        if missing:
            yield Finding(what, "note", missing, f"if you need it, run: pip install 'mien[{extra}]'")
        else:
            yield Finding(what, "ok", found)


def requirements() -> list[Requirement]:
    return [Requirement(line) for line in requires("mien") or []]


def applies(requirement: Requirement, *, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def of_extra(extra: str) -> list[Requirement]:
    """What an extra adds to the base, those of extras that it names included."""
    added = [each for each in requirements() if applies(each, extra=extra) and not applies(each, extra="")]
    own = [each for each in added if each.name != "mien"]
    return own + [each for other in added if other.name == "mien" for name in other.extras for each in of_extra(name)]


def look_for(wanted: list[Requirement]) -> tuple[str, str]:
    """What is wrong with the packages, if anything, and which are here, as text."""
    missing = filter(None, map(lack, wanted))
    return ", ".join(missing), ", ".join(" ".join(map(str, find(requirement.name))) for requirement in wanted)


def lack(requirement: Requirement) -> str:
    """What is wrong with the package that is required; nothing where it is here."""
    name, installed = find(requirement.name)
    if installed is None:
        return f"{name} missing"
    fits = requirement.specifier.contains(installed, prereleases=True)
    return "" if fits else f"{name} {installed}, expected {requirement.specifier}"


def find(package: str) -> tuple[str, str | None]:
    """The name and version of a package, or of one that brings the same; no version where there is none."""
    for name in (package, *SAME.get(package, ())):
        if version := installed_version(name):
            return name, version
    return package, None


def check_opencv() -> Iterator[Finding]:
    wheels = installed_wheels()
    for fault in opencv_faults():
        found, _, cure = fault.partition("; ")
        yield Finding("face detector", "fault", found, cure)
        return
    if len(wheels) > 1:
        cure = f'run: pip uninstall -y {" ".join(wheels)} && pip install "opencv-python-headless<5"'
        yield Finding("face detector", "note", f"{' and '.join(wheels)} overwrite each other's cv2", cure)
    else:
        yield Finding("face detector", "ok", f"OpenCV's cascades, from {' '.join(wheels) or 'a build of your own'}")


def check_yunet() -> Iterator[Finding]:
    if not os.environ.get(YUNET):
        return
    try:
        detector = YuNet(Path(os.environ[YUNET]))
    except (DataError, ImportError) as error:
        yield Finding(YUNET, "fault", str(error), f"set {YUNET} to YuNet's file, or unset it")
    else:
        yield Finding(YUNET, "ok", f"{os.environ[YUNET]}, SHA-256 {detector.sha256}")


def check_onnxruntime() -> Iterator[Finding]:
    """Whether ONNX Runtime uses what this computer has."""
    try:
        import onnxruntime
    except ImportError as error:
        cure = "run: pip install --force-reinstall onnxruntime"
        yield Finding("ONNX Runtime", "fault", f"cannot be imported ({error})", cure)
        return
    providers = [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"]
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if installed_version(name)]
    if len(both) > 1:
        cure = "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        yield Finding("ONNX Runtime", "note", "onnxruntime and onnxruntime-gpu overwrite each other", cure)
    elif has_gpu() and providers == ["CPUExecutionProvider"]:
        cure = "run: pip uninstall -y onnxruntime && pip install onnxruntime-gpu; then use --provider CUDAExecutionProvider"
        yield Finding("ONNX Runtime", "note", "computes on the CPU though there is a GPU", cure)
    else:
        yield Finding("ONNX Runtime", "ok", ", ".join(providers))
    if lacks_vnni():
        yield Finding("8-bit models", "note", "the processor has no VNNI: they are no faster", "use the fp32 files")


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU with its driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def lacks_vnni() -> bool:
    """Whether an x86 processor lacks the instructions that make 8-bit networks fast; False where it does not say."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    return "avx2" in text and "vnni" not in text


def check_training() -> Iterator[Finding]:
    """What Keras would compute with."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    named = [f"{name} {installed_version(name)}" for name in PARTS.get(backend, ()) if installed_version(name)]
    if "KERAS_BACKEND" in os.environ and not named:
        cure = f"unset KERAS_BACKEND, or set it to one of {', '.join(PARTS)} and install that"
        yield Finding("KERAS_BACKEND", "fault", f"{backend} is not installed", cure)
    elif not installed_version("keras"):
        return
    elif not named:
        there = [name for name, packages in PARTS.items() if any(map(installed_version, packages))]
        cure = f"set KERAS_BACKEND to {there[0]}" if there else "run: pip install 'mien[train]'"
        yield Finding("training", "fault", f"{backend} is not installed", cure)
    elif not has_gpu():
        cure = "train on a computer with an NVIDIA GPU: pip install 'mien[jax]' 'jax[cuda12]'"
        yield Finding("training", "note", f"no GPU: {' '.join(named)} computes on the CPU", cure)
    elif backend == "tensorflow" and not installed_version("tensorflow"):
        cure = "run: pip install 'mien[jax]' 'jax[cuda12]'; then set KERAS_BACKEND to jax"
        yield Finding("training", "note", f"{' '.join(named)} computes on the CPU though there is a GPU", cure)


def check_data() -> Iterator[Finding]:
    """Where FER2013 would come from."""
    given = os.environ.get("MIEN_DATA")
    if given:
        try:
            yield Finding("FER2013", "ok", f"MIEN_DATA: {locate(Path(given))}")
        except DataError as error:
            yield Finding("FER2013", "fault", f"MIEN_DATA: {error}", "set MIEN_DATA to FER2013, or unset it")
    elif kaggle_copy().is_dir():
        yield Finding("FER2013", "ok", str(kaggle_copy()))
    elif not reaches(KAGGLE):
        cure = "set MIEN_DATA to a folder or fer2013.csv at hand, or use --data drawn"
        yield Finding("FER2013", "note", f"no copy is at hand, and {KAGGLE[0]} cannot be reached", cure)
    else:
        yield Finding("FER2013", "note", "no copy is at hand; Kaggle can be reached", "run: mien data fetch")


def kaggle_copy() -> Path:
    """Where KaggleHub keeps the copy that `mien data fetch` downloads."""
    return Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub") / "datasets" / HANDLE


def reaches(address: tuple[str, int]) -> bool:
    """Whether a connection opens within PATIENCE; a name server that hangs is not waited for."""
    opened = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=PATIENCE).close()
            opened.set()
        except OSError:
            pass
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=connect, daemon=True).start()
    done.wait(PATIENCE)
    return opened.is_set()


def check_cache() -> Iterator[Finding]:
    """Decoded images of other data than MIEN_DATA or KaggleHub's copy as they are now."""
    folder = cache_folder()
    files = sorted(folder.glob("*.npz")) if folder.is_dir() else []  # a draft that was left there too
    current = fingerprints()
    stale = [file for file in files if current and file.stem not in current]
    megabytes = sum(file.stat().st_size for file in stale or files) / 1e6
    if stale:
        cure = f"they are decoded again when they are needed; to free the space, run: rm {shlex.join(map(str, stale))}"
        found = f"{len(stale)} of {len(files)} data sets are none at hand that mien knows of, {megabytes:.0f} MB"
        yield Finding("cache", "note", found, cure)
    else:
        yield Finding("cache", "ok", f"{len(files)} data sets, {megabytes:.0f} MB, in {folder}")


def fingerprints() -> set[str]:
    """The names that the data at hand has in the cache; none where there is no data."""
    source = os.environ.get("MIEN_DATA") or (kaggle_copy() if kaggle_copy().is_dir() else None)
    try:
        found = locate(Path(source)) if source else None
    except DataError:
        return set()
    return {fingerprint(found, skip_bad=skip_bad) for skip_bad in (False, True)} if found else set()


def check_models() -> Iterator[Finding]:
    """The models that come with mien, and whether they are whole."""
    from mien.inference.classifier import load, shipped_models

    names = shipped_models()
    if not names:
        yield Finding(
            "models", "note", "none comes with this version", "run: mien export RUN; then predict --model FILE"
        )
    for name in names:
        try:
            yield Finding(f"model {name}", "ok", f"SHA-256 {load(name, threads=1).sha256[:16]}…")
        except (DataError, ImportError) as error:
            yield Finding(f"model {name}", "fault", str(error), "run: pip install --force-reinstall mien")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_extras,
    check_opencv,
    check_yunet,
    check_onnxruntime,
    check_training,
    check_data,
    check_cache,
    check_models,
)
