"""A click means the frame that Label Studio's player showed, at every frame rate."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from numbered_films import write_film

from annotation.formats.registry import read_annotations
from annotation.label_studio.rate import effective_rate, player_frame, player_rate
from annotation.resolve import resolve_glance
from annotation.video_index import VideoIndex
from pipeline.records import Video
from pipeline.video.timeline import read_timeline

FRAMES = 300
CLICKS = 1_000


def steady(ticks: int) -> list[int]:
    return [ticks * number for number in range(FRAMES)]


def uneven(*steps: int) -> list[int]:
    rng = random.Random(7)
    starts = [0]
    while len(starts) < FRAMES:
        starts.append(starts[-1] + rng.choice(steps))
    return starts


FILMS = {
    "10": (steady(1), Fraction(1, 10), Fraction(10)),
    "23.976": (steady(1001), Fraction(1, 24000), Fraction(24000, 1001)),
    "25": (steady(1), Fraction(1, 25), Fraction(25)),
    "29.97": (steady(1001), Fraction(1, 30000), Fraction(30000, 1001)),
    "30 with frames dropped": (uneven(3000, 3000, 6000, 15000), Fraction(1, 90000), Fraction(30)),
    "anything": (uneven(*range(1200, 9000, 7)), Fraction(1, 90000), Fraction(30)),
    "one a second and slower": (uneven(1000, 1500, 4000), Fraction(1, 1000), Fraction(1)),
}


def shown(frame: int, rate: float, starts_s: list[float]) -> int:
    """Return what the player shows for one of its frames, which count from 1: its own arithmetic, on the true times."""
    at_s = int((frame - 1) / rate / 0.002 + 0.5) * 0.002 + 0.002
    return sum(start <= at_s + 1e-9 for start in starts_s) - 1


@pytest.mark.parametrize("name", FILMS)
def test_a_thousand_clicks_arrive_at_the_frame_that_was_shown(tmp_path: Path, name: str) -> None:
    starts, time_base, rate = FILMS[name]
    path = write_film(tmp_path / "film.mp4", starts, time_base, rate)
    timeline = read_timeline(path)
    given = f"{player_rate(timeline):.12g}"
    starts_s = [float(start * time_base) for start in starts]
    last = int(timeline.duration_s * float(given) + 1e-6)
    rows = {frame: shown(frame, float(given), starts_s) for frame in range(1, last + 1)}
    assert set(rows.values()) == set(range(FRAMES)), "every frame of the film can be reached"

    clicked = random.Random(1).choices(sorted(rows), k=CLICKS)
    regions = [
        {"value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]}} for frame in clicked
    ]
    task = {
        "data": {"video": "film.mp4", "fps": given},
        "annotations": [{"id": 1, "completed_by": 1, "result": regions}],
    }
    (tmp_path / "export.json").write_text(json.dumps([task]))
    video = Video(
        video_id="film",
        path="film.mp4",
        sha256="",
        fps=timeline.fps,
        num_frames=FRAMES,
        duration_s=timeline.duration_s,
        width=256,
        height=128,
        codec="h264",
        label=None,
        split=None,
        source="",
    )
    index = VideoIndex([video])
    found = read_annotations(tmp_path / "export.json").glances
    arrived = [resolve_glance(click, index, lambda _: timeline).frame_index for click in found]
    assert arrived == [rows[frame] for frame in clicked]


@pytest.mark.parametrize("name", FILMS)
def test_the_player_shows_every_frame_that_is_suggested(tmp_path: Path, name: str) -> None:
    starts, time_base, rate = FILMS[name]
    timeline = read_timeline(write_film(tmp_path / "film.mp4", starts, time_base, rate))
    given = float(f"{player_rate(timeline):.12g}")
    starts_s = [float(start * time_base) for start in starts]
    numbers = [player_frame(timeline, frame, given) + 1 for frame in range(FRAMES)]
    assert [shown(number, given, starts_s) for number in numbers] == list(range(FRAMES))


def test_a_frame_out_of_the_players_reach_is_suggested_beside(tmp_path: Path) -> None:
    starts, time_base, rate = FILMS["25"]
    timeline = read_timeline(write_film(tmp_path / "film.mp4", starts, time_base, rate))
    coarse = 10.0
    numbers = [player_frame(timeline, frame, coarse) + 1 for frame in range(FRAMES)]
    starts_s = [float(start * time_base) for start in starts]
    reachable = {shown(number, coarse, starts_s) for number in range(1, int(timeline.duration_s * coarse) + 1)}
    missed_by = [abs(shown(number, coarse, starts_s) - frame) for frame, number in enumerate(numbers)]
    assert missed_by == [min(abs(one - frame) for one in reachable) for frame in range(FRAMES)]


def test_rates_below_one_are_seconds_a_frame_to_the_player() -> None:
    assert effective_rate(0.04) == 25.0
    assert effective_rate(1.0) == 1.0
