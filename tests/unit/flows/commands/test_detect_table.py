"""`holmes detect --table`: results that grow and are resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_ray import FakeRay

from flows.cluster import executor
from flows.commands.detect_table import detect_into, found_in
from pipeline.infer import detector
from pipeline.infer.settings import DetectSettings
from pipeline.storage import Storage


@pytest.fixture
def films(tmp_path: Path, event_video: Path, calm_video: Path) -> list[str]:
    """A video with an event, one without, and a file that is none."""
    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copy(event_video, folder / "event.mp4")
    shutil.copy(calm_video, folder / "calm.mp4")
    (folder / "torn.mp4").write_bytes(b"no video")
    return [str(folder / name) for name in ("calm.mp4", "event.mp4", "torn.mp4")]


def test_table_grows_and_is_resumed(
    films: list[str], sampler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DetectSettings(sampler=str(sampler_folder), device="cpu")
    out = str(tmp_path / "out")
    assert detect_into(out, films[:1], settings).made == 1
    report = detect_into(out, films, settings)
    assert (report.made, report.kept, report.rows) == (2, 1, 2)
    [calm, event] = found_in(Storage(out)).records()
    assert (calm.video, calm.is_anomaly, calm.spans, calm.highest) == (films[0], 0, 0, None)
    assert (event.video, event.is_anomaly, event.spans) == (films[1], 1, 1)
    assert json.loads(event.found)["spans"][0]["score"] == pytest.approx(event.highest, abs=1e-4)
    monkeypatch.setattr(detector, "Detector", lambda _: pytest.fail("loaded for nothing"))
    assert detect_into(out, films, settings).made == 0


def test_cluster_finds_the_same(
    films: list[str], sampler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DetectSettings(sampler=str(sampler_folder), device="cpu")
    monkeypatch.setattr(executor, "connect", lambda _: FakeRay())
    monkeypatch.setattr(executor, "hold", lambda *_: None)
    detect_into(str(tmp_path / "here"), films, settings)
    detect_into(str(tmp_path / "there"), films, settings, on="ray")
    here, there = (found_in(Storage(str(tmp_path / name))) for name in ("here", "there"))
    assert there.digest() == here.digest()


def test_other_settings_look_again(films: list[str], sampler_folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    detect_into(out, films[:1], DetectSettings(sampler=str(sampler_folder), device="cpu"))
    other = DetectSettings(sampler=str(sampler_folder), device="cpu", theta=0.99)
    assert detect_into(out, films[:1], other).made == 1
