"""What `holmes doctor` says of published datasets: their terms, and which of their files are at hand."""

from __future__ import annotations

from pathlib import Path

from flows.doctor import _published
from pipeline.config import parse_config


def test_lists_at_hand_and_missing_ones_are_told_with_terms(tmp_path: Path) -> None:
    for name in ("ucf-crime.training.csv", "ucf-crime.testing.csv", "UCFCrime_Train.txt"):
        (tmp_path / name).write_text("video-id\nAbuse001_x264\n")
    settings = {"datasets": ["ucf-crime", "xd-violence"], "annotations": [str(tmp_path)]}
    ucf, xd = _published(parse_config({"videos": [str(tmp_path)], "sources": settings}))
    assert (ucf.name, ucf.ok, xd.name, xd.ok) == ("ucf-crime", True, "xd-violence", False)
    assert "there: ucf-crime.training.csv, ucf-crime.testing.csv, UCFCrime_Train.txt; missing: " in ucf.detail
    assert "ucf_glance_annotations.csv (https://github.com/pipixin321/GlanceVAD" in ucf.detail
    assert "or ucf_temporal_anomaly_annotation.txt (the owners' homepage)" in ucf.detail, "ground truth too"
    assert "GlanceVAD/tree/master/data/xd-violence, MIT)" in xd.detail
    assert "; known of it: Fifty of its 1,950 files" in ucf.detail
    assert "the footage may not be handed on; cite W. Sultani" in ucf.detail
    assert "there: nothing; missing: xd-violence.training.csv" in xd.detail
