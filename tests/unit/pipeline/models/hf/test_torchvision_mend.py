"""The mend lets torchvision be imported beside a torch it was not built for, and touches nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_with(path: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(Path(__file__).resolve().parents[5])])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


MEND = "from pipeline.models.hf.torchvision_mend import mend_torchvision as mend; "
BROKEN = """
import torch
if not hasattr(torch.ops.torchvision, 'qnms'):
    raise RuntimeError('operator torchvision::nms does not exist')
"""


@pytest.mark.slow
def test_mended_torchvision_imports(tmp_path: Path) -> None:
    assert "True" in run_with(
        tmp_path, MEND + "mend(); mend(); import torchvision; from torchvision.transforms import v2; print(True)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("nms = 1", "None"),
        (BROKEN, "Library"),
        ("raise RuntimeError('something else')", "something else"),
    ],
)
def test_mend_touches_broken_installs_alone(tmp_path: Path, module: str, expected: str) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(module)
    assert expected in run_with(tmp_path, MEND + "print(type(mend()).__name__.replace('NoneType', 'None'))")
