"""Copies of footage are known by their look, and scenes of one camera are told apart."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.dataset.copies import ALIKE
from pipeline.video.look import is_blank, look_at, look_vectors

STREET = np.random.default_rng(0).integers(40, 200, (12, 16), dtype=np.uint8)
SIZE_WH = (160, 120)


def street(seed: int, *, light: float = 0.0) -> list[NDArray[np.uint8]]:
    """Six seconds of one fixed camera, through which something dark walks; the light may rise."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 4, (60, 2)), axis=0) + rng.uniform(30, 90, 2)
    pictures = []
    for number, (x, y) in enumerate(path):
        picture = cv2.resize(STREET, SIZE_WH, interpolation=cv2.INTER_CUBIC).astype(np.float32)
        cv2.circle(picture, (int(x) % SIZE_WH[0], int(y) % SIZE_WH[1]), 14, 10.0, -1)
        pictures.append(np.clip(picture * (1 + light * number / len(path)), 0, 255).astype(np.uint8))
    return pictures


def write(path: Path, pictures: list[NDArray[np.uint8]], *, codec: str = "libx264", crf: int = 20, fps: int = 10,
          size_wh: tuple[int, int] = SIZE_WH) -> Path:  # fmt: skip
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": str(crf)} if codec == "libx264" else {})
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuv420p"
        for number in range(len(pictures) * fps // 10):
            picture = cv2.resize(pictures[number * 10 // fps], size_wh)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def likeness(one: Path, other: Path) -> float:
    first, second = look_vectors([look_at(one), look_at(other)])
    return float(first @ second)


@pytest.mark.parametrize(
    "written", [{"crf": 40}, {"codec": "mpeg4"}, {"fps": 25}, {"fps": 15, "crf": 35}, {"size_wh": (80, 60)}]
)
def test_the_same_footage_written_anew_is_a_copy(tmp_path: Path, written: dict[str, int]) -> None:
    original = write(tmp_path / "a.mp4", street(1))
    assert likeness(original, write(tmp_path / "b.mp4", street(1), **written)) > ALIKE + 0.1


@pytest.mark.parametrize("light", [0.0, 0.6])
def test_scenes_of_one_camera_are_no_copies(tmp_path: Path, light: float) -> None:
    original = write(tmp_path / "a.mp4", street(1, light=light))
    assert likeness(original, write(tmp_path / "b.mp4", street(2, light=light))) < ALIKE - 0.2


def test_where_nothing_changes_nothing_is_alike(tmp_path: Path) -> None:
    still = write(tmp_path / "a.mp4", [np.full((120, 160), 90, np.uint8)] * 60)
    assert likeness(still, still) == 0


def test_pictures_of_one_colour_and_noise_are_blank_and_a_street_at_night_is_none() -> None:
    rng = np.random.default_rng(1)
    noise = np.clip(rng.normal(120, 60, (3, 240, 320, 3)), 0, 255).astype(np.uint8)
    blue = np.zeros((3, 240, 320, 3), np.uint8) + np.array([10, 20, 200], np.uint8)
    assert is_blank(noise)
    assert is_blank(blue)
    pictures = np.stack([cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) for picture in street(0)[:3]])
    assert not is_blank(pictures)
    assert not is_blank(pictures // 4)
    assert not is_blank(np.stack([blue[0], cv2.resize(pictures[0], (320, 240))])), "one of them shows something"
