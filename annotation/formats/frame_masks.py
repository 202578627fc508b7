"""Read the frame labels of UBnormal, ShanghaiTech and Avenue: one .npy a video, not 0 where a frame is abnormal.

The array has one number a frame, or one mask of pixels a frame, frames first. The file is called as the video is, with
or without `_gt`, `_mask` or `_tracks` behind it. There is no class: the event is abnormal and no more.

Source: https://github.com/lilygeorgescu/UBnormal, https://svip-lab.github.io/dataset/campus_dataset.html (the folder
test_frame_mask) and http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html.
"""

from __future__ import annotations

import io
import re

import numpy as np

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source
from pipeline.errors import DataError
from pipeline.records import ABNORMAL, NORMAL
from pipeline.sampler.intervals import runs

_ENDING = re.compile(r"_(?:gt|mask|tracks?)$", re.IGNORECASE)


def read_frame_masks(source: Source) -> Import:
    """Read the runs of abnormal frames; a video without one is Normal.

    Raises:
        DataError: no array, a pickled one, or one whose numbers are not one a frame or pixels of frames.
    """
    if not source.is_npy:
        raise DataError(f"{source.path}: not one NumPy array (.npy)")
    try:
        mask = np.load(io.BytesIO(source.path.read_bytes()), allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise DataError(f"{source.path}: not a readable array: {fault}") from None
    if mask.ndim == 2 and 1 in mask.shape:
        mask = mask.reshape(-1)
    if mask.ndim not in {1, 3} or not mask.size or mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise DataError(
            f"{source.path}: {mask.dtype} of shape {mask.shape}: a number or a mask of pixels a frame is expected"
        )
    is_abnormal = (mask != 0).reshape(len(mask), -1).any(axis=1)
    found = Import(format="frame-masks")
    name = source.path.stem
    video = _ENDING.sub("", name)
    paths = (name,) if name != video else ()
    if not is_abnormal.any():
        found.take(
            ForeignSpan(
                video=video, paths=paths, category=NORMAL, kind=SpanKind.VIDEO, num_frames=len(mask), place=source.name
            )
        )
    for start, end in runs(is_abnormal).tolist():
        found.take(
            ForeignSpan(
                video=video, paths=paths, start_frame=start, end_frame=end, category=ABNORMAL, kind=SpanKind.EVENT,
                num_frames=len(mask), place=f"{source.name}: frames {start} to {end - 1}",
            )
        )  # fmt: skip
    return found


FRAME_MASKS = Format(
    title="frame masks: a .npy per video, not 0 where abnormal",
    likeness=lambda source: float(source.is_npy),
    read=lambda source, _: read_frame_masks(source),
)
