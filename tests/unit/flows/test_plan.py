"""Which stages a build goes through, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.plan import run_steps, step_names
from pipeline.config import BuildConfig
from pipeline.errors import DataError
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace


@pytest.mark.parametrize(("first", "left_out"), [(None, 0), ("filter", -2)])
def test_a_build_goes_from_its_first_stage_to_the_export(tmp_path: Path, first: str | None, left_out: int) -> None:
    config = BuildConfig(videos=["a.mp4"], workspace=str(tmp_path))
    called: list[str] = []

    def run(name: str, _workspace: Workspace) -> StageReport:
        called.append(name)
        if name == "export":
            raise DataError("nothing to export")
        return StageReport(stage=name, made=0, kept=0, dropped=0, rows=0, rejected={}, seconds=0.0)

    with pytest.raises(DataError, match="nothing to export"):
        run_steps(config, run, first=first)
    assert tuple(called) == step_names(config)[left_out:]
    noted = Workspace(str(tmp_path)).read_json("run.json")
    assert noted is not None
    assert noted["complete"] is False
    assert [stage["stage"] for stage in noted["stages"]] == called[:-1]
