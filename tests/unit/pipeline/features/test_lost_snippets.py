"""Features of frames where a recording has no picture: what is there is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_copies import copy_odd, zeros_at

from pipeline.errors import RecordError
from pipeline.features.vision_tower import _middle_frames, with_stand_ins
from pipeline.video.readers import open_reader

Film = Callable[[str], Path]


def _blocks(*counts: int) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield blocks of that many snippets with features of their own; of negative ones nothing decodes."""
    place = 0
    for count in counts:
        values = np.arange(place, place + max(count, 0), dtype=np.float32)
        yield values[:, None].repeat(2, axis=1), abs(count)
        place += abs(count)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((3, 2), [0, 1, 2, 3, 4]),
        ((2, -3, 1), [0, 1, 1, 1, 1, 5]),
        ((-2, -1, 2), [3, 3, 3, 3, 4]),
        ((-1, 1, -2), [1, 1, 1, 1]),
    ],
)
def test_snippets_without_a_picture_look_like_the_one_before(counts: tuple[int, ...], expected: list[int]) -> None:
    features = np.concatenate(list(with_stand_ins(_blocks(*counts), "a.mp4")), axis=1)
    assert features.shape == (1, len(expected), 2)
    assert features[0, :, 0].tolist() == expected


def test_a_video_without_any_picture_has_no_features() -> None:
    with pytest.raises(RecordError, match=r"a\.mp4: of none of its 5 snippets"):
        list(with_stand_ins(_blocks(-3, -2), "a.mp4"))


def test_a_chunk_of_which_most_is_lost_gives_what_decodes(
    film: Film, tmp_path: Path, number_of: Callable[[NDArray[np.uint8]], int]
) -> None:
    path = copy_odd(film("mjpeg.avi"), tmp_path / "lost.avi", change=zeros_at(range(20, 90)))
    with open_reader(path) as reader:
        frames = _middle_frames(reader, 0, 10, 10)
        assert [number_of(frame) for frame in frames] == [5, 15, *[15] * 7, 95]
        assert _middle_frames(reader, 3, 6, 10).shape == (0, 64, 128, 3)
