"""Reading with torchcodec on a GPU's video decoder (NVDEC); frames are scaled there and come back to the host."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.video.index_reader import IndexReader

DEVICE = "cuda"


class NvdecReader(IndexReader):
    """Frames from NVDEC; codecs that the card has no decoder for are refused by name."""

    name = "nvdec"
    codecs: ClassVar[frozenset[str]] = frozenset({"h264", "hevc", "vp9", "av1"})

    def _open(self) -> Any:
        try:
            from torchcodec.decoders import VideoDecoder
        except (ImportError, OSError, RuntimeError) as fault:
            # Where FFmpeg's libraries are not found, torchcodec is there and cannot be imported.
            reason = str(fault).strip().partition("\n")[0]
            raise SetupError(
                f"video.reader: nvdec needs torchcodec for CUDA and FFmpeg's libraries: {reason}; video.reader: pyav "
                "does not"
            ) from None
        try:
            return VideoDecoder(str(self._path), device=DEVICE, seek_mode="exact")
        except (RuntimeError, ValueError) as fault:
            raise self._failed(fault) from None

    def _read(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        from torch.nn.functional import interpolate

        try:
            frames = self._video.get_frames_at(indices=wanted.tolist()).data  # (N, 3, H, W), uint8
            if tuple(frames.shape[-2:]) != (self.height, self.width):
                frames = interpolate(frames.float(), (self.height, self.width), mode="bilinear", antialias=True)
                frames = frames.round_().clamp_(0, 255).byte()
        except (RuntimeError, IndexError) as fault:
            raise self._failed(fault) from None
        read: NDArray[np.uint8] = frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return read

    def _failed(self, fault: Exception) -> RecordError:
        reason = str(fault).strip().partition("\n")[0]
        return RecordError(Reason.DECODE_FAILED, f"{self._path}: nvdec: {reason}; use video.reader: auto")
