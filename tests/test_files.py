"""Ways between folders hold when they are moved together, and where there is none."""

import os
from pathlib import Path

from mien.files import seen_from


def test_a_way_between_two_folders_leads_there_and_follows_links(tmp_path):
    (tmp_path / "runs" / "student").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "models")
    way = seen_from(tmp_path / "runs" / "student", tmp_path / "linked" / "base.onnx")
    assert Path(way) == Path("../../models/base.onnx")


def test_from_one_drive_to_another_there_is_the_whole_path_alone(tmp_path, monkeypatch):
    def refuse(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", refuse)
    assert seen_from(tmp_path, tmp_path / "base.onnx") == str(tmp_path / "base.onnx")
