"""Fixtures that several rooms' tests share: the real FER2013 where it is at hand, and drawn faces everywhere."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch, request):
    """Tests neither read nor write the user's cache; those on the real FER2013 share one, since decoding takes seconds."""
    shared = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("MIEN_CACHE", str(shared))


@pytest.fixture(scope="session")
def fer2013() -> Path:
    """The real data set's folder, or a skip that says where it was sought."""
    for folder in (os.environ.get("MIEN_DATA"), ROOT.parent / "shared" / "fer2013"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("FER2013 is neither at MIEN_DATA nor at ../shared/fer2013")


@pytest.fixture(scope="session")
def drawn():
    """A small drawn data set: 280 training and 70 test faces."""
    from mien.data.drawn import draw_dataset

    return draw_dataset(training=280, test=70)
