"""Human sentences about spans of videos: those that do not fit are told by count, and the rest is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotation.sentences import read_sentences
from pipeline.records import Video


def test_sentences_beyond_the_end_are_told_once_by_count_with_three_examples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [
        Video(
            video_id=name, path="", sha256=name, fps=25.0, num_frames=100, duration_s=4.0, width=64, height=48,
            codec="", label="Abuse", split=None, source="test",
        )
        for name in ("Abuse001_x264", "Abuse002_x264")
    ]  # fmt: skip
    spans = [(0.0, 2.0), (2.0, 4.3), (9.0, 12.0), (9.5, 12.0), (10.0, 12.0), (3.0, 8.0)]
    uca = {
        "Abuse001_x264": {"duration": 4.0, "timestamps": spans, "sentences": [f"Sentence {n}." for n in range(6)]},
        "abuse002_X264": {"duration": 4.0, "timestamps": [(0.0, 1.0)], "sentences": ["Of another."]},
        "Abuse003_x264": {"duration": 4.0, "timestamps": [(0.0, 1.0)], "sentences": ["Of a video that is not there."]},
    }
    (tmp_path / "UCFCrime_Train.json").write_text(json.dumps(uca))
    found = read_sentences([str(tmp_path / "UCFCrime_Train.json")], videos)
    assert {name: [(one.start_s, one.end_s) for one in said] for name, said in found.items()} == {
        # a sentence that reaches a moment past the end ends with the video
        "Abuse001_x264": [(0.0, 2.0), (2.0, 4.0)],
        "Abuse002_x264": [(0.0, 1.0)],
    }
    (told,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "UCFCrime_Train.json: 4 sentences left out: " in told
    assert told.count("Abuse001_x264, which lasts 4.00 s") == 3
