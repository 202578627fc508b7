"""The notebook of the documentation runs from top to bottom, and its figures are what its text says they are."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOK = REPOSITORY / "docs/notebooks/from_clips_to_sampler.ipynb"


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what each code cell shows as text, log lines left out."""
    return [
        "".join(
            output.get("text", output.get("data", {}).get("text/plain", ""))
            for output in cell.outputs
            if output.get("name") != "stderr"
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.timeout(1200)
def test_notebook_runs_and_trains_a_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the world that it renders goes where the test's files go
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(NOTEBOOK, 4)
    committed = printed(notebook)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = printed(notebook)
    assert shown[0] == committed[0]  # the same world from the same seed
    assert (measured := re.search(r"frame AUC (\d\.\d+)", shown[-1])) is not None
    assert float(measured.group(1)) > 0.7
    assert len(list(tmp_path.glob("holmes-*/workspace/dataset/data/*.parquet"))) >= 2


def test_committed_notebook_holds_outputs_and_no_errors() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1  # the configuration alone shows nothing
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
