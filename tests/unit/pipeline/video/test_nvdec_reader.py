"""Decoding on a GPU: the same frames by index, scaled there; here torchcodec is stood in for, by PyAV on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.config import VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.video.readers import open_reader

Film = Callable[[str], Path]


class _VideoDecoder:
    """What is used of torchcodec's class, its frames from PyAV."""

    opened: list[dict[str, Any]]

    def __init__(self, source: str, *, device: str, seek_mode: str) -> None:
        self.opened.append({"device": device, "seek_mode": seek_mode})
        with open_reader(source) as reader:
            self._frames = [picture for _, picture in reader.iter_frames()]

    def __len__(self) -> int:
        return len(self._frames)

    def get_frames_at(self, indices: list[int]) -> Any:
        if any(index == 13 for index in indices):
            raise RuntimeError("no decoder surfaces left")
        return SimpleNamespace(data=torch.from_numpy(np.stack([self._frames[i] for i in indices])).permute(0, 3, 1, 2))


@pytest.fixture
def torchcodec(monkeypatch: pytest.MonkeyPatch) -> type[_VideoDecoder]:
    module = ModuleType("torchcodec.decoders")
    module.VideoDecoder = _VideoDecoder  # type: ignore[attr-defined]
    monkeypatch.setattr(_VideoDecoder, "opened", [], raising=False)
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)
    return _VideoDecoder


def test_frames_are_those_of_the_exact_decoder(
    torchcodec: type[_VideoDecoder], film: Film, number_of: Callable[[NDArray[np.uint8]], int]
) -> None:
    with open_reader(film("h264.mp4"), "nvdec") as reader, open_reader(film("h264.mp4")) as exact:
        assert reader.name == "nvdec"
        assert [number_of(frame) for frame in reader.frames_at([40, 3, 40, 99])] == [40, 3, 40, 99]
        assert [index for index, _ in reader.iter_frames(20, 60, 7)] == [20, 27, 34, 41, 48, 55]
        assert np.array_equal(reader.frames_at([5]), exact.frames_at([5]))
        assert reader.frames_at([]).shape == (0, reader.height, reader.width, 3)
        with pytest.raises(RecordError, match=r"no decoder surfaces left; use video\.reader: auto"):
            reader.frames_at([13])
    assert torchcodec.opened == [{"device": "cuda", "seek_mode": "exact"}]


def test_frames_are_scaled_there(torchcodec: type[_VideoDecoder], film: Film) -> None:
    with (
        open_reader(film("h264.mp4"), "nvdec", (32, 24)) as reader,
        open_reader(film("h264.mp4"), size=(32, 24)) as pyav,
    ):
        mine, theirs = reader.frames_at([10, 50]), pyav.frames_at([10, 50])
    assert mine.shape == theirs.shape == (2, 24, 32, 3)
    assert np.abs(mine.astype(int) - theirs).mean() < 8


def test_files_that_it_would_count_otherwise_are_refused(torchcodec: type[_VideoDecoder], film: Film) -> None:
    for name, reason in (
        ("rotated.mp4", "it is to be shown turned by"),
        ("h264.ts", "the format is"),
        ("mpeg2.mpg", "the format is"),
    ):
        with pytest.raises(RecordError, match=f"nvdec is not exact here: {reason}"), open_reader(film(name), "nvdec"):
            pass
    assert torchcodec.opened == []


def test_without_torchcodec_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, film: Film) -> None:
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SetupError, match="nvdec needs torchcodec for CUDA"), open_reader(film("h264.mp4"), "nvdec"):
        pass


def test_other_pixels_are_made_anew() -> None:
    identities = [VideoConfig(reader=name).identity() for name in ("auto", "pyav", "decord", "nvdec")]  # type: ignore[arg-type]
    assert identities == [{}, {}, {"reader": "decord"}, {"reader": "nvdec"}]


@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264.mkv", "fragmented.mp4", "uneven.mp4", "late.mp4", "hevc.mp4", "vp9.webm", "av1.mp4"]
)
def test_torchcodec_itself_counts_frames_as_they_are_shown(
    name: str, film: Film, number_of: Callable[[NDArray[np.uint8]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, where its frames have the same indices: they are exact, or the file is refused."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as fault:
        pytest.skip(str(fault).strip().splitlines()[0])
    monkeypatch.setattr("pipeline.video.nvdec_reader.DEVICE", "cpu")
    refused = None
    try:
        with open_reader(film(name), "nvdec") as reader:
            assert [number_of(frame) for frame in reader.frames_at([70, 0, 33, 99])] == [70, 0, 33, 99]
    except RecordError as fault:
        refused = fault.detail
    assert refused is None or "nvdec is not exact here" in refused
