"""HIVAU-70k's raw annotation in, through a table, and out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotation.formats.foreign import SpanKind
from annotation.formats.hivau_file import convert_to_hivau, write_hivau
from annotation.formats.parquet import import_to_parquet
from annotation.formats.registry import read_annotations
from pipeline.errors import DataError
from pipeline.models.base import CaptionRequest
from pipeline.models.human import HumanCaptioner, TimedSentence
from pipeline.records import Caption, EventClip, Level, Video

PUBLISHED = Path(__file__).resolve().parents[5] / "shared/data/annotations/hivau70k_ucf_database_test.json"
NO_DATA = pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published annotation is not beside the repository")


@NO_DATA
def test_the_published_file_makes_the_round_trip_byte_for_byte(tmp_path: Path) -> None:
    imported = import_to_parquet(PUBLISHED, "hivau", tmp_path / "spans.parquet")
    assert imported.faults == []
    assert convert_to_hivau(tmp_path / "spans.parquet", tmp_path / "again.json") == 251
    assert (tmp_path / "again.json").read_bytes() == PUBLISHED.read_bytes()


@NO_DATA
def test_the_published_file_holds_texts_of_all_three_levels() -> None:
    spans = read_annotations(PUBLISHED).spans
    counts = {kind: sum(span.kind is kind for span in spans) for kind in SpanKind}
    assert counts == {SpanKind.VIDEO: 251, SpanKind.EVENT: 337, SpanKind.CLIP: 762, SpanKind.CAPTION: 0}
    assert all(span.judgement and span.description for span in spans if span.kind is not SpanKind.CLIP)


def test_a_file_without_parts_is_written_with_none(tmp_path: Path) -> None:
    entry = {
        "n_frames": 100, "fps": 25.0, "label": [], "events": [[1.0, 3.0]], "clips": [[[1.0, 2.0]]],
        "clips_caption": [["A dog."]], "events_summary": ["A dog walks. "], "video_summary": "",
    }  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps({"cam": entry}))
    convert_to_hivau(tmp_path / "in.json", tmp_path / "out.json")
    empty = {"events_summary_split": [{}], "video_summary_split": {}}
    assert json.loads((tmp_path / "out.json").read_text()) == {"cam": entry | empty}


def test_what_is_not_described_or_lacks_a_rate_is_named(tmp_path: Path) -> None:
    uca = {"cam": {"duration": 9.0, "timestamps": [[1.0, 2.0]], "sentences": ["A dog."]}}
    (tmp_path / "uca.json").write_text(json.dumps(uca))
    with pytest.raises(DataError, match="no clips, events and videos"):
        convert_to_hivau(tmp_path / "uca.json", tmp_path / "out.json")
    with pytest.raises(DataError, match="cam: how many frames"):
        write_hivau(read_annotations(tmp_path / "uca.json").spans, tmp_path / "out.json")


VIDEO = Video(
    video_id="cam", path="/cam.mp4", sha256="0" * 64, fps=25.0, num_frames=1500, duration_s=60.0, width=64, height=48,
    codec="h264", label="Fighting", split=None, source="videos.csv:2",
)  # fmt: skip


def span(level: Level, start_s: float, end_s: float) -> EventClip:
    return EventClip(
        clip_id="c", video_id="cam", start_s=start_s, end_s=end_s, start_frame=0, end_frame=1, glance_time_s=None,
        label="Fighting", anomaly_score=None, method="window" if level is Level.CLIP else level.value,
    )  # fmt: skip


def test_events_and_videos_take_what_was_written_about_them() -> None:
    told = [
        TimedSentence(0, 60, "a quarrel in a bar", Level.VIDEO),
        TimedSentence(5, 20, "two men quarrel", Level.EVENT),
        TimedSentence(40, 50, "they leave", Level.EVENT),
        TimedSentence(5, 10, "a man shouts", Level.CLIP),
    ]
    captioner = HumanCaptioner({"cam": told})
    texts = {
        name: caption and caption.text
        for name, caption in (
            ("video", captioner.level_caption(span(Level.VIDEO, 0, 60))),
            ("event", captioner.level_caption(span(Level.EVENT, 4, 18))),
            ("none", captioner.level_caption(span(Level.EVENT, 25, 35))),
        )
    }
    of_clip = HumanCaptioner({"cam": told}).caption([CaptionRequest(clip=span(Level.CLIP, 5, 20), video=VIDEO)])
    assert [caption.text for caption in of_clip if isinstance(caption, Caption)] == ["A man shouts."]
    assert texts == {"video": "A quarrel in a bar.", "event": "Two men quarrel.", "none": None}
