"""Frame masks in files of MATLAB: `volLabel` of Avenue, a cell with one mask of pixels a frame.

SciPy reads files up to version 7, and h5py, which nothing else needs, those of version 7.3, which are HDF5.

Source: the folder testing_label_mask of http://www.cse.cuhk.edu.hk/leojia/projects/detectabnormal/dataset.html.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.source import Source
from pipeline.errors import DataError, SetupError

_CELL = "volLabel"
_OF_CONTENT = (
    OSError, ValueError, TypeError, KeyError, IndexError, MemoryError, RuntimeError, zlib.error,
)  # fmt: skip
"""What the readers let through of a damaged file."""

_INSTALL = "pip install 'holmes-engine[mat]'"


def read_mat_masks(source: Source) -> NDArray[np.bool_]:
    """Return for each frame of a .mat file whether any pixel of its mask is set, shape (num_frames,).

    That is what the variable `volLabel` says, or the only variable that there is: a cell of masks, a list of numbers,
    or masks of shape (H, W, num_frames), as MATLAB puts them.

    Raises:
        DataError: the file is damaged, or no variable in it is such a list.
        SetupError: what reads it is not installed.
    """
    variables = _of_hdf5(source) if source.is_hdf5 else _of_version_5(source)
    name = _CELL if _CELL in variables else next(iter(variables), "")
    if not variables or (len(variables) > 1 and name != _CELL):
        held = ", ".join(sorted(variables)) or "nothing"
        raise DataError(f"{source.path}: no variable {_CELL}, and not one variable alone: it holds {held}")
    value = variables[name]
    try:
        if value.dtype == object:
            return np.array([bool(np.asarray(mask).any()) for mask in value.ravel()], dtype=bool)
        if value.ndim == 3:
            return np.asarray((value != 0).any(axis=(0, 1)))
        if value.size == max(value.shape, default=0):
            return np.asarray(value.ravel() != 0)
    except (TypeError, ValueError) as fault:
        raise DataError(f"{source.path}: {name}: {fault}") from None
    raise DataError(f"{source.path}: {name} of shape {value.shape}: a number or a mask of pixels a frame is expected")


def _of_version_5(source: Source) -> Mapping[str, NDArray[Any]]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError:
        raise SetupError(f"{source.path}: files of MATLAB need SciPy: {_INSTALL}") from None
    try:
        content = loadmat(io.BytesIO(source.path.read_bytes()))
    except (*_OF_CONTENT, MatReadError) as fault:
        raise DataError(f"{source.path}: not a readable file of MATLAB: {fault}") from None
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _of_hdf5(source: Source) -> Mapping[str, NDArray[Any]]:
    try:
        import h5py
    except ImportError:
        raise SetupError(f"{source.path}: files of MATLAB 7.3 need h5py: {_INSTALL}; or save it with -v7") from None
    try:
        with h5py.File(io.BytesIO(source.path.read_bytes())) as file:
            # MATLAB keeps what cells refer to under names with a mark in front, and its axes the other way round.
            return {name: _dataset(file, file[name]) for name in file if isinstance(file[name], h5py.Dataset)}
    except _OF_CONTENT as fault:
        raise DataError(f"{source.path}: not a readable file of MATLAB 7.3: {fault}") from None


def _dataset(file: Any, dataset: Any) -> NDArray[Any]:
    values = dataset[()].T
    if values.dtype != object:
        return np.asarray(values)
    cell = np.empty(values.size, dtype=object)
    for place, reference in enumerate(values.ravel()):
        cell[place] = np.asarray(file[reference][()]).T
    return cell
