"""Masks of Avenue as MATLAB writes them, and tracks of UBnormal."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from annotation.formats.frame_masks import read_frame_masks, read_mask_folder
from annotation.formats.ubnormal_tracks import UBNORMAL_TRACKS, read_tracks
from annotation.source import Source
from annotation.video_index import VideoIndex
from pipeline.errors import DataError, SetupError
from pipeline.records import Video


def masks_of(*abnormal: int, count: int = 12) -> list[NDArray[np.uint8]]:
    """Return a mask of 4 x 6 pixels for each frame."""
    masks = [np.zeros((4, 6), np.uint8) for _ in range(count)]
    for frame in abnormal:
        masks[frame][1, 2] = 1
    return masks


def write_cell(path: Path, masks: list[NDArray[np.uint8]]) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    cell = np.empty((1, len(masks)), dtype=object)
    for place, mask in enumerate(masks):
        cell[0, place] = mask
    scipy_io.savemat(path, {"volLabel": cell}, do_compression=True)


def write_cell_of_73(path: Path, masks: list[NDArray[np.uint8]]) -> None:
    """Write as MATLAB 7.3 does: a header of 512 bytes, references to the cell's content, axes the other way round."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as file:
        references = np.empty((len(masks), 1), dtype=h5py.ref_dtype)
        for place, mask in enumerate(masks):
            references[place, 0] = file.create_dataset(f"#refs#/{place}", data=mask.T).ref
        file.create_dataset("volLabel", data=references, dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(512))


def spans_of(path: Path) -> list[tuple[int | None, int | None]]:
    return [(span.start_frame, span.end_frame) for span in read_frame_masks(Source(path)).spans]


@pytest.mark.parametrize("write", [write_cell, write_cell_of_73])
def test_a_cell_of_masks(write: object, tmp_path: Path) -> None:
    path = tmp_path / "1_label.mat"
    assert callable(write)
    write(path, masks_of(3, 4, 5, 9))
    found = read_frame_masks(Source(path))
    assert [(span.start_frame, span.end_frame) for span in found.spans] == [(3, 6), (9, 10)]
    assert {(span.video, span.num_frames) for span in found.spans} == {("1", 12)}
    ingested = VideoIndex(
        [
            Video(
                video_id=f"{number:02d}", path=f"/films/{number:02d}.avi", sha256="", fps=25.0, num_frames=12,
                duration_s=0.48, width=64, height=48, codec="h264", label=None, split=None, source="test",
            )
            for number in (1, 2, 11)
        ]
    )  # fmt: skip
    assert ingested.find(found.spans[0].video, found.spans[0].paths).video_id == "01"


def test_other_variables_of_a_file(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "05.mat"
    scipy_io.savemat(path, {"gt": np.uint8([0, 0, 1, 1, 0])})
    assert spans_of(path) == [(2, 4)]
    scipy_io.savemat(path, {"mask": np.stack(masks_of(7, count=9), axis=-1)})
    assert spans_of(path) == [(7, 8)]
    scipy_io.savemat(path, {"volLabel": np.zeros((2, 5))})
    with pytest.raises(DataError, match=r"volLabel of shape \(2, 5\)"):
        spans_of(path)
    scipy_io.savemat(path, {"a": np.zeros(5), "b": np.zeros(5)})
    with pytest.raises(DataError, match="no variable volLabel, and not one variable alone: it holds a, b"):
        spans_of(path)


@pytest.mark.parametrize("size", [7, 200])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, size: int) -> None:
    path = tmp_path / "1_label.mat"
    write_cell(path, masks_of(3))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"1_label\.mat: not a readable file of MATLAB"):
        spans_of(path)


@pytest.mark.parametrize(
    ("head", "package", "told"),
    [(b"MATLAB 5.0 MAT-file", "scipy.io", "SciPy"), (b"MATLAB 7.3 MAT-file", "h5py", "h5py")],
)
def test_what_is_not_installed_is_said(
    head: bytes, package: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1_label.mat"
    path.write_bytes(head)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=rf"{told}: pip install 'holmes-engine\[mat\]'"):
        spans_of(path)


def test_tracks_of_ubnormal(tmp_path: Path) -> None:
    path = tmp_path / "abnormal_scene_1_scenario_1_tracks.txt"
    path.write_text("1,102,325\n1.0, 400.0, 400.0\nwhat?\n3,20,10\n")
    found = read_tracks(Source(path))
    assert [(span.video, span.start_frame, span.end_frame) for span in found.spans] == [
        ("abnormal_scene_1_scenario_1", 102, 326),
        ("abnormal_scene_1_scenario_1", 400, 401),
    ]
    assert [fault.place for fault in found.faults] == [f"{path.name}:3", f"{path.name}:4"]
    assert UBNORMAL_TRACKS.likeness(Source(path)) == 1.0
    assert UBNORMAL_TRACKS.likeness(Source(path.rename(tmp_path / "lists.txt"))) == 0.0


def test_a_folder_of_all_kinds(tmp_path: Path) -> None:
    write_cell(tmp_path / "3_label.mat", masks_of(1, 2))
    np.save(tmp_path / "calm.npy", np.zeros(5))
    notes = tmp_path / "Scene1" / "abnormal_scene_1_scenario_1_annotations"
    notes.mkdir(parents=True)
    (notes / "abnormal_scene_1_scenario_1_tracks.txt").write_text("1,5,9\n")
    (notes / "abnormal_scene_1_scenario_1_new_tracks.txt").write_text("1,6,8\n")
    (tmp_path / "damaged_tracks.txt").write_text("nothing\n")
    found = read_mask_folder(tmp_path)
    assert [(span.video, span.start_frame, span.end_frame) for span in found.spans] == [
        ("3", 1, 3),
        ("calm", None, None),
        ("abnormal_scene_1_scenario_1", 6, 9),
    ]
    assert [fault.video for fault in found.faults] == ["damaged"]
