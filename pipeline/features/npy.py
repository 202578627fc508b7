"""Features that others computed, read from files as they are published for UCF-Crime and XD-Violence.

A video's features lie in one file `<name>.npy` of shape (T, D), (T, crops, D) or (crops, T, D), or in a file per crop
of shape (T, D): `<name>__0.npy` and so on, where UCF-Crime writes the first crop as `<name>.npy` (10 crops) and
XD-Violence all of them with a number (5 crops); other archives number them `<name>_0.npy`. As text, `<name>.txt` has a
line of numbers a row, as Sultani et al. (CVPR 2018) give the 32 segments of their C3D features. <name> is the video's
id or the stem of its file; `_x264` may be missing or followed by `_i3d` or `_C`, as some archives have it. Rows are
snippets of a number of frames, usually 16, or equal parts of the video, however many. Features of one kind in each
folder, such as RGB and flow, are put side by side where that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FeaturesConfig
from pipeline.config.sampler import Combine
from pipeline.errors import ConfigError, RecordError, SetupError
from pipeline.features.base import (
    EncodedVideo,
    EncoderBackend,
    FeatureJob,
    FeatureStream,
    Floats,
    num_snippets,
    write_features,
)
from pipeline.records import Reason, Video, digest

_CROP = re.compile(r"^(?P<name>.+?)(?:__(?P<crop>\d+))?$")
_SUFFIXES = frozenset({".npy", ".txt"})
_Files = dict[str, dict[int, list[Path]]]
"""Files by the plain name of their video, then by crop."""

_MOST_CROPS = 32
_USUAL_CROPS = frozenset({1, 5, 10})
_SLACK = 0.1  # of the expected number of snippets: extractors treat the last frames of a video differently


class NpyEncoder:
    """Takes over features from folders."""

    name = "npy"

    def __init__(self, folders: Sequence[str], combine: Combine) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._combine = combine

    def identity(self) -> Mapping[str, Any]:
        # Files count by name, size and time of change.
        files = [
            sorted(
                (path.name, path.stat().st_size, path.stat().st_mtime_ns)
                for crops in part.values()
                for paths in crops.values()
                for path in paths
            )
            for _, part in self._parts
        ]
        return {"encoder": self.name, "version": 3, "combine": self._combine, "files": digest(files)}

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        for job in jobs:
            try:
                yield self._take_over(job)
            except RecordError as fault:
                yield fault

    def _take_over(self, job: FeatureJob) -> EncodedVideo:
        video = job.video
        expected = num_snippets(video.num_frames, job.stride_frames) if job.stride_frames else None
        parts = []
        for paths in self._paths_of(video):
            features = _stacked([_read(path, expected) for path in paths], f"{video.video_id}: crops", axis=0)
            parts.append(_fitted(features, expected, job, paths[0]))
        features = _stacked(parts, f"{video.video_id}: features of several folders", axis=2)
        return write_features(job.path, features.shape[1], video.video_id, [features])

    def _paths_of(self, video: Video) -> list[list[Path]]:
        """Return the files of a video's crops, part by part.

        Raises:
            RecordError: NO_FEATURES where a part has none, BAD_FEATURES where two files claim to be the same.
        """
        found = []
        for folders, files in self._parts:
            crops = next((files[name] for name in _names(video) if name in files), None)
            crops = crops or next(filter(None, (_numbered(name, files) for name in _names(video))), None)
            if crops is None:
                raise RecordError(
                    Reason.NO_FEATURES,
                    f"{video.video_id}: no .npy or .txt of that name in features.folders ({folders})",
                )
            missing = sorted({*range(max(crops) + 1)} - crops.keys()) if len(crops) > 1 else []
            if missing:
                raise RecordError(
                    Reason.BAD_FEATURES,
                    f"{video.video_id}: crops {sorted(crops)} in {folders}: {missing} are missing",
                )
            for paths in crops.values():
                if len(paths) > 1:
                    raise RecordError(
                        Reason.BAD_FEATURES,
                        f"{video.video_id}: {paths[0]} and {paths[1]} have one name: leave in features.folders the one "
                        "that is meant, or put folders side by side with features.combine=concatenate",
                    )
            found.append([crops[crop][0] for crop in sorted(crops)])
        return found

    @cached_property
    def _parts(self) -> list[tuple[str, _Files]]:
        """Folders and their files: all for one, or each folder for itself where features are put side by side."""
        parts = [[folder] for folder in self._folders] if self._combine == "concatenate" else [self._folders]
        return [(", ".join(map(str, folders)), _list_files(folders)) for folders in parts]


def _list_files(folders: Sequence[Path]) -> _Files:
    files: _Files = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"features.folders: {folder}: no such folder")
        for path in sorted(folder.rglob("*")):
            match = _CROP.match(path.stem) if path.suffix.lower() in _SUFFIXES else None
            if match:
                files.setdefault(_plain(match["name"]), {}).setdefault(int(match["crop"] or 0), []).append(path)
    return files


def _numbered(name: str, files: _Files) -> dict[int, list[Path]]:
    """Return the crops that are numbered with one underscore: never for a video with files of its own name."""
    crops = {crop: files.get(f"{name}_{crop}", {}).get(0, []) for crop in range(_MOST_CROPS)}
    crops = {crop: paths for crop, paths in crops.items() if paths}
    return crops if len(crops) > 1 else {}


def _names(video: Video) -> list[str]:
    return [_plain(name) for name in (video.video_id, Path(video.path).stem) if name]


def _plain(name: str) -> str:
    return name.removesuffix("_i3d").removesuffix("_C").removesuffix("_x264")


def _fitted(features: Floats, expected: int | None, job: FeatureJob, path: Path) -> Floats:
    """Return features with as many snippets as their video has; rows that are parts of it are as many as they are.

    Raises:
        RecordError: BAD_FEATURES where they are far from as many, or parts are more than there are frames.
    """
    count, num_frames = features.shape[1], job.video.num_frames
    if expected is None:
        if count > num_frames:
            raise RecordError(Reason.BAD_FEATURES, f"{path}: {count} parts of a video of {num_frames} frames")
        return features
    if abs(count - expected) > max(2, _SLACK * expected):
        raise RecordError(
            Reason.BAD_FEATURES,
            f"{path}: {count} snippets; {num_frames} frames in steps of {job.stride_frames} are {expected} "
            "(features.stride_frames); where rows are equal parts of the video, set features.rows=segments",
        )
    # Fitted at the end: the last snippet is repeated, or snippets beyond the video are left out.
    return features[:, np.minimum(np.arange(expected), count - 1)]


def _read(path: Path, expected: int | None) -> Floats:
    """Return one file's features, shape (crops, T, D); `expected` is None where T can be any."""
    try:
        values: NDArray[Any]
        if path.suffix.lower() == ".txt":
            values = np.loadtxt(path, dtype=np.float32, ndmin=2)
        else:
            values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise RecordError(Reason.BAD_FEATURES, f"{path}: {fault}") from None
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3) or not values.size:
        raise RecordError(
            Reason.BAD_FEATURES, f"{path}: {values.dtype} of shape {values.shape}; expected (T, D) or (T, crops, D)"
        )
    floats: Floats = values.astype(np.float32, copy=False)
    if values.ndim == 2:
        return floats[None]
    if expected is None:
        # Without an expectation the published order, (T, crops, D), holds but where only the other makes usual crops.
        first, second = (length in _USUAL_CROPS for length in values.shape[:2])
        return floats if first and not second else floats.swapaxes(0, 1)
    # Which of the first two axes is time is told by the length of the video; crops are few.
    if values.shape[1] <= _MOST_CROPS and abs(values.shape[0] - expected) <= abs(values.shape[1] - expected):
        return floats.swapaxes(0, 1)
    return floats


def _stacked(arrays: list[Floats], what: str, axis: int) -> Floats:
    """Put arrays together along an axis; `what` they are stands in the message where they do not fit."""
    shapes = {(*array.shape[:axis], *array.shape[axis + 1 :]) for array in arrays}
    if len(shapes) > 1:
        raise RecordError(Reason.BAD_FEATURES, f"{what} of different shapes: {[array.shape for array in arrays]}")
    return np.concatenate(arrays, axis=axis)


def _no_stream(_: FeaturesConfig) -> FeatureStream:
    raise SetupError("features.encoder=npy: features that others computed cannot be computed for a new video")


NPY = EncoderBackend(make_encoder=lambda config, _: NpyEncoder(config.folders, config.combine), make_stream=_no_stream)
