"""Files that are damaged in ways of their own: each gives what can be read of it, or the reason why nothing can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from odd_copies import copy_odd

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.probe import probe

Film = Callable[[str], Path]


def without_index(content: bytes) -> bytes:
    return content[: content.index(b"moov") - 4]


def headers_alone(content: bytes) -> bytes:
    return content[: content.index(b"mdat") + 20]


def foreign_middle(content: bytes) -> bytes:
    """Put a picture of another program into the middle of a transport stream."""
    third = len(content) // 3
    return content[:third] + b"\x89PNG" * 500 + content[third:]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("h264.mp4", without_index, Reason.TRUNCATED),
        ("fast start.mp4", headers_alone, Reason.TRUNCATED),
        ("h264.ts", lambda content: content[:0], Reason.EMPTY_FILE),
        ("h264.ts", lambda content: bytes(len(content)), Reason.NOT_A_VIDEO),
    ],
)
def test_what_cannot_be_used_has_its_reason(
    name: str, damage: Callable[[bytes], bytes], reason: Reason, film: Film, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(damage(film(name).read_bytes()))
    with pytest.raises(RecordError) as caught:
        probe(path)
    assert caught.value.reason is reason


def test_foreign_bytes_between_transport_packets_cost_their_frames_alone(film: Film, tmp_path: Path) -> None:
    path = tmp_path / "foreign.ts"
    path.write_bytes(foreign_middle(film("h264.ts").read_bytes()))
    facts = probe(path)
    assert 90 <= facts.num_frames <= 100
    assert facts.duration_s == pytest.approx(4.0, abs=0.05)


def test_flipped_bits_inside_pictures_cost_few_frames(film: Film, tmp_path: Path) -> None:
    flip = np.random.default_rng(3)

    def flipped(place: int, content: bytes) -> bytes:
        if place % 10 != 5 or len(content) < 40:
            return content
        at = int(flip.integers(30, len(content)))
        return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]

    facts = probe(copy_odd(film("h264.mp4"), tmp_path / "flipped.mp4", change=flipped), "decode")
    assert facts.num_frames == 100
    assert facts.lost_share <= 0.2


def test_a_day_between_two_recordings_of_uneven_rate_counts_in_nothing_but_the_times(
    film: Film, tmp_path: Path
) -> None:
    day_s = 86_400.0
    path = copy_odd(film("uneven.mkv"), tmp_path / "day.mkv", later_s=lambda place: day_s * (place >= 60))
    whole, facts = probe(film("uneven.mkv")), probe(path)
    assert facts.num_frames == whole.num_frames
    assert facts.fps == pytest.approx(whole.fps, rel=0.05)
    assert facts.duration_s == pytest.approx(whole.duration_s + day_s, abs=0.1)
    [(start_s, end_s)] = facts.lost
    assert end_s - start_s == pytest.approx(day_s, abs=0.2)
    assert facts.lost_share == 0
