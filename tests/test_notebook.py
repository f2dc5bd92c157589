"""The notebook runs from top to bottom, and is shipped as small cells without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "mien.ipynb"
TINY = 'data = "faces"\nchanges = ("model=compact", "epochs=1", "oversample_to=20")'


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    (cell,) = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


def write_faces(dataset, root):
    for name, image in zip(dataset.names.tolist(), dataset.images, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(root / name)


def test_it_is_shipped_without_outputs_in_small_cells(notebook):
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= 10
        assert not re.search(r"""["'](/|~|[A-Z]:)""", cell.source)  # no place on somebody's machine
    assert 10 <= len(code_cells(notebook)) <= 15


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook, drawn, tmp_path, monkeypatch):
    write_faces(drawn, tmp_path / "faces")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    notebook.cells.remove(tagged(notebook, "install"))  # tests are offline
    tagged(notebook, "parameters").source = TINY
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "epoch   1/1" in printed
    assert "macro-F1" in printed
    assert "accuracy gain" in printed
    assert "mistake 1" in printed
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 3 + 4  # faces, curves, confusion, and the mistakes
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 2
