"""Backends and formats of other packages: found, named, run through a build, and told apart from slips of the pen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from acme_package import write_installed
from moving_square import write_video

from annotation.formats.registry import annotation_formats, detect_format, read_annotations
from flows.doctor import examine
from flows.plan import build, run_step
from pipeline.config import parse_config
from pipeline.dataset.formats import export_format
from pipeline.errors import ConfigError, SetupError
from pipeline.features.base import open_features
from pipeline.plugins import CAPTIONERS, GROUPS, OURS, plugins
from pipeline.workspace import Workspace


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The other package, installed for the length of a test."""
    folder = write_installed(tmp_path / "site")
    monkeypatch.syspath_prepend(str(folder))
    plugins.cache_clear()
    yield folder
    plugins.cache_clear()
    sys.modules.pop("acme_vad", None)


@pytest.mark.slow
@pytest.mark.usefixtures("acme")
def test_a_build_with_everything_of_another_package(tmp_path: Path) -> None:
    write_video(tmp_path / "cam.mp4", speed=3)
    (tmp_path / "marks.csv").write_text("clip,mark,what\ncam,20,Fighting\n")
    config = parse_config(
        {
            "videos": [str(tmp_path / "cam.mp4")],
            "glances": [str(tmp_path / "marks.csv")],
            "workspace": str(tmp_path / "w"),
            "caption": {"backend": "acme_vad:words", "options": {"words": "Two men fight."}},
            "synthesize": {"backend": "ACME.vad:short"},
            "features": {"encoder": "acme-vad:mean", "options": {"scale": 0.5}},
        }
    )
    assert config.caption.backend == "acme-vad:words"  # one spelling, whatever was written
    summary = build(config)
    workspace = Workspace(config.workspace)
    (caption,) = workspace.captions.records()
    assert caption.captioner == "acme-vad:words"
    assert caption.text.startswith("Two men fight.")
    assert {pair.llm for pair in workspace.pairs.records()} == {"acme-vad:short"}
    with workspace.locked():
        run_step("features", workspace, config)
    (features,) = workspace.features.records()
    assert features.encoder == "acme-vad:mean"
    path = workspace.storage.local_path(workspace.features_file(features.video_id))
    assert np.unique(open_features(path)).tolist() == [0.5]
    count = export_format(summary.dataset, "acme-vad:lines", tmp_path / "lines.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"said", "split"}] * count
    # an option that changes the words remakes them, and what follows
    other = config.model_copy(update={"caption": config.caption.model_copy(update={"options": {"words": "A fight."}})})
    assert {report.stage: report.made for report in build(other).stages}["caption"] == 1


@pytest.mark.usefixtures("acme")
def test_formats_of_another_package_are_told_from_the_content(tmp_path: Path) -> None:
    file = tmp_path / "marks.csv"
    file.write_text("clip,mark,what\ncam,20,Fighting\n")
    assert detect_format(file) == "acme-vad:marks"
    assert [glance.frame_index for glance in read_annotations(file).glances] == [20]
    assert list(annotation_formats())[-1] == "acme-vad:marks"


@pytest.mark.usefixtures("acme")
def test_doctor_lists_them() -> None:
    said = [check.detail for check in examine(None) if check.name in GROUPS]
    assert "hf, human, motion, openai, vllm" in said
    assert "acme-vad:words of acme-vad 1.2" in said


def test_one_that_cannot_be_imported_is_named(acme: Path) -> None:
    (acme / "acme_vad.py").write_text("import something_that_is_not_there\n")
    (fault,) = {check.detail for check in examine(None) if not check.ok and check.name == CAPTIONERS}
    assert fault == (
        "acme-vad:words: acme-vad 1.2 offers acme_vad:make_captioner, which fails: "
        "No module named 'something_that_is_not_there'"
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"caption": {"backend": "motoin"}},
            "config: caption.backend = 'motoin': 'motoin' is unknown; the nearest is motion, known are hf, human, ",
        ),
        ({"caption": {"backend": "nobody:words"}}, "no installed package 'nobody' offers holmes.captioners"),
        ({"synthesize": {"backend": "hm"}}, "known are hf, openai, template"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"videos": ["v"], **values})
    assert told in str(caught.value)


@pytest.mark.usefixtures("acme")
def test_an_unknown_name_of_a_known_package(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'acme-vad:word' is unknown; the nearest is acme-vad:words"):
        parse_config({"videos": ["v"], "caption": {"backend": "acme-vad:word"}})
    with pytest.raises(ConfigError, match="format 'acme-vad:line' is unknown; the nearest is acme-vad:lines"):
        export_format(tmp_path, "acme-vad:line", tmp_path / "out")


def test_an_engine_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    plugins.cache_clear()
    with pytest.raises(SetupError, match=f"{OURS} is not installed in this Python"):
        plugins(CAPTIONERS)
    plugins.cache_clear()
