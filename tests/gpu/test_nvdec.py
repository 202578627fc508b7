"""Decoding on the GPU's own decoder, against the exact one on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from infer_videos import write_video

from pipeline.video.readers import open_reader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device can be used here"),
    pytest.mark.skipif(importlib.util.find_spec("torchcodec") is None, reason="torchcodec is not installed"),
]


def test_frames_are_those_of_the_exact_decoder(tmp_path: Path) -> None:
    film, wanted = write_video(tmp_path / "film.mp4", 4.0, ((1.0, 3.0),)), [40, 3, 17, 63]
    with open_reader(film, "nvdec") as gpu, open_reader(film) as cpu:
        difference = np.abs(gpu.frames_at(wanted).astype(int) - cpu.frames_at(wanted))
    assert difference.mean() < 4
