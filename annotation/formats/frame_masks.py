"""Read the frame labels of UBnormal, ShanghaiTech and Avenue: one file a video, not 0 where a frame is abnormal.

The array of a .npy has one number a frame, or one mask of pixels a frame, frames first, for every frame of the video;
Avenue has .mat files, see `mat_masks`, and UBnormal tracks, see `ubnormal_tracks`. The file is called as the video is,
with or without `_gt`, `_mask`, `_label` and their like behind it. There is no class: the event is abnormal and no more.
The files of a folder are read as one.

Source: https://github.com/lilygeorgescu/UBnormal, https://svip-lab.github.io/dataset/campus_dataset.html (the folder
test_frame_mask) and http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.mat_masks import read_mat_masks
from annotation.formats.ubnormal_tracks import NAME, read_tracks
from annotation.source import Source
from pipeline.errors import DataError
from pipeline.records import ABNORMAL, NORMAL, Reason
from pipeline.sampler.intervals import runs

SUFFIXES = (".npy", ".mat")
_ENDING = re.compile(r"(?:_(?:gt|frame|pixel|mask|label|track)s?)+$", re.IGNORECASE)
_NAMED = 5
_OF_HEADER = (
    OSError, ValueError, TypeError, SyntaxError, ArithmeticError, EOFError, MemoryError, TokenError,
)  # fmt: skip
"""What NumPy lets through of a damaged header, which is Python text and may ask for any size."""


def read_mask_folder(folder: Path) -> Import:
    """Read every mask of a folder, in the order of names; a file that is none is a fault and the rest goes on.

    Raises:
        DataError: the folder holds no such file, or cannot be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as fault:
        raise DataError(f"{folder}: cannot be read: {fault.strerror}") from None
    masks = [path for path in files if path.suffix.lower() in SUFFIXES and path.is_file()]
    masks += _tracks(folder)
    if not masks:
        expected = "one .npy, .mat or _tracks.txt per video is expected in it"
        raise DataError(f"{folder}: a folder without frame masks: {expected}")
    found = Import(format="frame-masks")
    for path in masks:
        is_track = NAME.fullmatch(path.name) is not None
        try:
            read = read_tracks(Source(path)) if is_track else read_frame_masks(Source(path))
        except DataError as fault:
            found.fault(path.name, None if is_track else _video(path)[0], Reason.MALFORMED_ROW, fault)
            continue
        found.spans.extend(read.spans)
        found.faults.extend(read.faults)
    if others := [path.name for path in files if path not in masks]:
        listed = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        found.notes.append(f"{len(others)} other file(s) of the folder were not read: {listed}")
    return found


def _tracks(folder: Path) -> list[Path]:
    """Return the tracks of UBnormal in a folder and those below it, of each video the corrected ones."""
    named = [(found, path) for path in sorted(folder.rglob("*.txt")) if (found := NAME.fullmatch(path.name))]
    # Corrected ones come last and stay.
    named.sort(key=lambda one: one[0]["new"] is not None)
    return sorted({found["video"]: path for found, path in named}.values())


def read_frame_masks(source: Source) -> Import:
    """Read the runs of abnormal frames; a video without one is Normal.

    Raises:
        DataError: no array, a pickled one, or one whose numbers are not one a frame or pixels of frames.
        SetupError: what reads a file of MATLAB is not installed.
    """
    is_abnormal = read_mat_masks(source) if source.is_mat else _read_npy(source)
    if not is_abnormal.size:
        raise DataError(f"{source.path}: holds no frame")
    found = Import(format="frame-masks")
    video, paths = _video(source.path)
    num_frames = len(is_abnormal)
    if not is_abnormal.any():
        found.take(
            ForeignSpan(
                video=video, paths=paths, category=NORMAL, kind=SpanKind.VIDEO, num_frames=num_frames, is_exact=True,
                place=source.name,
            )
        )  # fmt: skip
    for start, end in runs(is_abnormal).tolist():
        found.take(
            ForeignSpan(
                video=video, paths=paths, start_frame=start, end_frame=end, category=ABNORMAL, kind=SpanKind.EVENT,
                num_frames=num_frames, is_exact=True, place=f"{source.name}: frames {start} to {end - 1}",
            )
        )  # fmt: skip
    return found


def _read_npy(source: Source) -> NDArray[np.bool_]:
    if not source.is_npy:
        raise DataError(f"{source.path}: not one NumPy array (.npy), and not a file of MATLAB (.mat)")
    try:
        mask = np.load(io.BytesIO(source.path.read_bytes()), allow_pickle=False)
    except _OF_HEADER as fault:
        raise DataError(f"{source.path}: not a readable array: {fault}") from None
    if mask.ndim == 2 and 1 in mask.shape:
        mask = mask.reshape(-1)
    if mask.ndim not in {1, 3} or not mask.size or mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise DataError(
            f"{source.path}: {mask.dtype} of shape {mask.shape}: a number or a mask of pixels a frame is expected"
        )
    return np.asarray((mask != 0).reshape(len(mask), -1).any(axis=1))


def _video(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the name of a mask's video, and what it may be called beside: as the file, or with two digits."""
    name = _ENDING.sub("", path.stem) or path.stem
    # Avenue calls a video 01.avi and its mask 1_label.mat.
    others = [path.stem] * (name != path.stem) + [f"0{name}"] * (len(name) == 1 and name.isdecimal())
    return name, tuple(others)


FRAME_MASKS = Format(
    title="frame masks: a .npy or .mat per video, not 0 where abnormal",
    likeness=lambda source: float(source.is_npy or source.is_mat),
    read=lambda source, _: read_frame_masks(source),
)
