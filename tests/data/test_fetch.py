import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from mien.data.dataset import PRIVATE, PUBLIC
from mien.data.fetch import HANDLE, fetch, find_csv, open_data, title_of
from mien.errors import DataError, MissingExtraError


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch):
    monkeypatch.delenv("MIEN_DATA", raising=False)


@pytest.fixture
def kagglehub(monkeypatch):
    """A stand-in for the package: what it was asked for, and what it answers."""
    module = types.ModuleType("kagglehub")
    module.answer = "/faces"
    module.asked = []

    def dataset_download(handle):
        module.asked.append(handle)
        if isinstance(module.answer, BaseException):
            raise module.answer
        return module.answer

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module


def test_the_handle_is_pinned_so_that_a_cached_copy_works_offline(kagglehub):
    assert str(fetch()) == "/faces"
    assert kagglehub.asked == [HANDLE]
    assert HANDLE.startswith("ananthu017/emotion-detection-fer/versions/")


def test_a_folder_at_hand_is_taken_first(kagglehub, monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_DATA", str(tmp_path))
    assert fetch() == tmp_path
    assert kagglehub.asked == []


def test_a_failed_download_names_its_cause_and_the_ways_out(kagglehub):
    kagglehub.answer = ConnectionError("outer")
    kagglehub.answer.__cause__ = OSError("Name or service not known\nmore")
    with pytest.raises(DataError, match="Name or service not known.*--data DIR.*--data drawn") as caught:
        fetch()
    assert "\n" not in str(caught.value)


def test_an_error_of_kagglehub_s_own_is_one_line_too(kagglehub):
    class DataCorruptionError(Exception):
        pass

    kagglehub.answer = DataCorruptionError("the file is not whole")
    with pytest.raises(DataError, match="DataCorruptionError: the file is not whole.*--data drawn"):
        fetch()


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[train\]'"):
        fetch()


def test_a_cached_copy_is_used_without_a_network(tmp_path):
    """The real package finds what lies in its cache; nothing is asked of a network."""
    import subprocess

    version = HANDLE.rpartition("/")[2]
    folder = tmp_path / "datasets" / "ananthu017" / "emotion-detection-fer" / "versions" / version
    folder.mkdir(parents=True)
    (folder.parent.parent / f"{version}.complete").touch()
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "socket.socket.connect = refuse\n"
        "from mien.data.fetch import fetch\n"
        "print(fetch())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"KAGGLEHUB_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(folder), done.stderr


def test_drawn_faces_need_nothing():
    assert len(open_data("drawn")) == 3500


def test_the_csv_that_votes_follow_is_the_data_itself(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,pixels,Usage\n")
    assert find_csv(str(tmp_path)) == find_csv(str(path)) == path
    assert find_csv("drawn") is find_csv(str(tmp_path / "moved")) is None


def test_fer2013_is_known_by_its_halves_wherever_it_lies(drawn):
    test = drawn.test
    halves = replace(test, usage=np.where(np.arange(len(test)) % 2 == 0, PUBLIC, PRIVATE))
    assert title_of(halves, "/cache/emotion-detection-fer/versions/1") == title_of(halves, "a/fer2013.csv") == "FER2013"
    assert title_of(test, "drawn") == "drawn"
    assert title_of(test, "/home/me/my-faces") == "my-faces"
