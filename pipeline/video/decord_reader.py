"""Reading with decord, which decodes on the CPU."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.video.index_reader import IndexReader


class DecordReader(IndexReader):
    """Frames from decord, which has no AV1 decoder."""

    name = "decord"
    codecs: ClassVar[frozenset[str]] = frozenset({"h264", "hevc", "vp9"})

    def _open(self) -> Any:
        try:
            import decord
        except ImportError:
            raise SetupError("video.reader: decord needs the package decord; video.reader: pyav does not") from None
        try:
            return decord.VideoReader(str(self._path.absolute()), width=self.width, height=self.height, num_threads=1)
        except decord.DECORDError as fault:
            raise RecordError(Reason.DECODE_FAILED, f"{self._path}: decord: {fault}") from None

    def _read(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        import decord

        try:
            frames: NDArray[np.uint8] = self._video.get_batch(wanted.tolist()).asnumpy()
        except decord.DECORDError as fault:
            raise RecordError(Reason.DECODE_FAILED, f"{self._path}: decord: {fault}") from None
        return frames
