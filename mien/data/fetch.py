"""A word or a path in, a path to face pictures out: KaggleHub at a pinned version, or a folder of one's own."""

import os
from pathlib import Path

from mien.data.dataset import PRIVATE, PUBLIC, Dataset, load_dataset, locate, untracked
from mien.data.drawn import draw_dataset
from mien.emotions import Track
from mien.errors import DataError, extra

# Pinned: a handle without a version asks the network first, even when a copy is cached.
HANDLE = "ananthu017/emotion-detection-fer/versions/1"
DRAWN = "drawn"


def fetch() -> Path:
    """FER2013's folder: `MIEN_DATA` if set, else KaggleHub's cached copy, else a download.

    Raises DataError with the cause and the ways out when there is none of them.
    """
    if at_hand := os.environ.get("MIEN_DATA"):
        return Path(at_hand)
    with extra("train"):
        import kagglehub
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # KaggleHub raises its own errors, requests' and zipfile's, which nothing has in common
        raise DataError(
            f"FER2013 cannot be downloaded ({first_line(error)}); connect to the network, or give --data DIR "
            "(a folder or fer2013.csv), or --data drawn (drawn faces, made on the spot)"
        ) from error


def first_line(error: BaseException) -> str:
    """The innermost cause, in one line: a lookup that failed says more than the three errors wrapped around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"


def open_data(source: str | None, *, skip_bad: bool = False, track: Track = untracked) -> Dataset:
    """The faces that `--data` names: "drawn", a folder or fer2013.csv; FER2013 from `fetch` where it is None."""
    if source == DRAWN:
        return draw_dataset()
    return load_dataset(Path(source) if source else fetch(), skip_bad=skip_bad, track=track)


def name_source(data: str | None) -> str:
    """Where the images come from, in words that mean the same from any folder."""
    if data == DRAWN:
        return DRAWN
    return str((Path(data) if data else fetch()).resolve())


def title_of(test: Dataset, source: str) -> str:
    """What a reader knows the images by: FER2013 wherever it lies, else the last word of `source`."""
    return "FER2013" if {PUBLIC, PRIVATE} <= set(test.usage.tolist()) else Path(source).name


def find_csv(source: str) -> Path | None:
    """The fer2013.csv that the images of `source` come from; None where they come from elsewhere."""
    if source == DRAWN or not Path(source).exists():
        return None
    path = locate(Path(source))
    return path if path.is_file() else None
