"""Real recordings with clicks and ground truth, as corpora that samplers are trained and scored on in folds by source.

`ped2`: 8 videos of one camera, 4 folds. `fight`: 33 videos, each of a source of its own, 5 folds; no two videos share a
source. `upcam`: an hour of one room in pieces of three minutes, the first half from the clicks of the second and the
other way round; one click in each abnormal segment, drawn at random. `ucf_c3d`: published C3D features of
244 videos with published clicks, 5 folds, and no ground truth: what is near a click is taken to be abnormal, and in the
videos with clicks what is farther than ten seconds from all of them, or unclear, stays out.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.stage import GlancesStage
from pipeline.config import ExportConfig, parse_config
from pipeline.features.base import open_features
from pipeline.sampler.data import Corpus, LabelledVideo, load_corpus
from pipeline.stages.features import FeaturesStage
from pipeline.stages.ingest import IngestStage
from pipeline.stages.looks import LooksStage
from pipeline.stages.run import run_stage
from pipeline.stages.splits import SplitsStage
from pipeline.workspace import Workspace

STRIDE_FRAMES = 8
_PIECE_FRAMES = 904  # of upcam, three minutes at 5 frames a second in whole snippets
_UNKNOWN = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class RealSet:
    """A corpus in folds, and by snippet what is true.

    Attributes:
        folds: which videos are held out together, as indices into the corpus's videos.
        truth: by video, for each snippet the share of its frames that are abnormal, or -1 where that is not known.
    """

    name: str
    corpus: Corpus
    folds: Sequence[Sequence[int]]
    truth: dict[str, NDArray[np.float64]]


def load_set(name: str, data: Path, folder: Path, features: dict[str, Any]) -> RealSet:
    """Return a set by name, its features made once in `folder`.

    Args:
        name: ped2, fight, upcam or ucf_c3d.
        data: the folder that holds a folder of that name.
        folder: for workspaces.
        features: settings of the features; those of ucf_c3d are as published.
    """
    if name == "ucf_c3d":
        return _load_c3d(data / name, folder / name)
    workspace = _make_workspace(name, data / name, folder, features)
    if name == "upcam":
        return _load_upcam(workspace, data / name)
    corpus = load_corpus(workspace)
    with (data / name / "ground_truth.csv").open() as file:
        events = [
            (row["video_id"], int(row["start_frame"]), int(row["end_frame_exclusive"])) for row in csv.DictReader(file)
        ]
    frames = {video.video_id: np.zeros(video.num_frames) for video in workspace.videos.records()}
    for video_id, start, end in events:
        frames[video_id][start:end] = 1
    truth = {video.video_id: by_snippet(frames[video.video_id]) for video in corpus.videos}
    return RealSet(name=name, corpus=corpus, folds=_share_out(corpus.videos, 4 if name == "ped2" else 5), truth=truth)


def by_snippet(frames: NDArray[np.float64], stride_frames: int = STRIDE_FRAMES) -> NDArray[np.float64]:
    """Return the mean of each snippet's frames."""
    starts = np.arange(0, len(frames), stride_frames)
    return np.asarray(np.add.reduceat(frames, starts) / np.diff(np.append(starts, len(frames))))


def _make_workspace(name: str, data: Path, folder: Path, features: dict[str, Any]) -> Workspace:
    manifest, clicks = data / "videos.csv", data / "glance_annotations.csv"
    if name == "upcam":
        folder.mkdir(parents=True, exist_ok=True)
        manifest, clicks = folder / "upcam.csv", folder / "upcam_clicks.csv"
        manifest.write_text(f"video_id,file,label\nupcam_eval_00,{data / 'upcam_eval_00.mp4'},Abnormal\n")
        clicks.write_text("video-id,glance\nupcam_eval_00,2400\n")
    settings = {"stride_frames": STRIDE_FRAMES} | features
    encoder = hashlib.blake2b(repr(sorted(settings.items())).encode(), digest_size=6).hexdigest()
    config = parse_config(
        {
            "videos": [str(manifest)], "glances": [str(clicks)],
            "workspace": str(folder / f"{name}-{encoder}"), "features": settings,
        }
    )  # fmt: skip
    workspace = Workspace(config.workspace)
    run_stage(IngestStage(workspace, config.videos, config.ingest, config.video), workspace.videos)
    run_stage(GlancesStage(workspace, config.glances, config.glance, config.video), workspace.glances)
    run_stage(LooksStage(workspace, config.video), workspace.looks)
    # All of it is shared out in folds.
    splits = ExportConfig(validation_fraction=0, test_fraction=0)
    run_stage(SplitsStage(workspace, splits), workspace.splits)
    run_stage(FeaturesStage(workspace, config.features, config.video), workspace.features)
    return workspace


def _share_out(videos: Sequence[LabelledVideo], count: int) -> list[list[int]]:
    """Share out videos, abnormal and normal ones alike, so that no fold takes the last normal one away."""
    folds: list[list[int]] = [[] for _ in range(count)]
    ordered = sorted(range(len(videos)), key=lambda index: (videos[index].is_abnormal, videos[index].video_id))
    for place, index in enumerate(ordered):
        folds[place % count].append(index)
    return folds


def _load_upcam(workspace: Workspace, data: Path) -> RealSet:
    """Cut the hour into pieces: stretches of its features."""
    [video] = workspace.videos.records()
    [row] = workspace.features.records()
    features = open_features(workspace.storage.local_path(row.path))
    frames = np.zeros(video.num_frames)
    rng = np.random.default_rng(0)
    with (data / "events.csv").open() as file:
        spans = [
            (int(event["start_frame"]), int(event["end_frame_exclusive"]))
            for event in csv.DictReader(file)
            if event["is_anomaly"] == "1"
        ]
    for start, end in spans:
        frames[start:end] = 1
    clicks = [int(rng.integers(start, end)) for start, end in spans]
    folder = workspace.storage.local_path("pieces")
    folder.mkdir(parents=True, exist_ok=True)
    videos, truth = [], {}
    for number, start in enumerate(range(0, video.num_frames, _PIECE_FRAMES)):
        end = min(start + _PIECE_FRAMES, video.num_frames)
        own = frames[start:end]
        inside = sorted({(click - start) // STRIDE_FRAMES for click in clicks if start <= click < end})
        piece = f"upcam_{number:02d}"
        part = features[:, start // STRIDE_FRAMES : -(-end // STRIDE_FRAMES)]
        np.save(folder / f"{piece}.npy", part)
        truth[piece] = by_snippet(own)
        videos.append(
            _labelled(piece, folder / f"{piece}.npy", part.shape[1], STRIDE_FRAMES / video.fps, bool(own.any()), inside)
        )
    corpus = Corpus(videos=tuple(videos), encoder=row.encoder, dim=row.dim, stride_frames=STRIDE_FRAMES)
    half = len(videos) // 2
    folds = [list(range(half)), list(range(half, len(videos)))]
    return RealSet(name="upcam", corpus=corpus, folds=folds, truth=truth)


def _load_c3d(data: Path, folder: Path) -> RealSet:
    arrays = np.load(data / "train_c3d.npz")
    clicks: dict[str, list[int]] = {}
    with (data / "glance_annotations.csv").open() as file:
        for row in csv.DictReader(file):
            clicks.setdefault(row["video-id"], []).append(int(row["glance"]))
    folder.mkdir(parents=True, exist_ok=True)
    videos, truth = [], {}
    with (data / "videos.csv").open() as file:
        for row in csv.DictReader(file):
            name, num_frames, fps = row["video_id"], int(row["num_frames"]), float(row["fps"])
            segments = arrays[name]
            count = len(segments)
            glances = sorted({min(frame * count // num_frames, count - 1) for frame in clicks.get(name, [])})
            path = folder / f"{name}.npy"
            if not path.exists():
                np.save(path, segments[None])
            is_abnormal = row["label"] != "Normal"
            video = _labelled(name, path, count, num_frames / fps / count, is_abnormal, glances)
            distance_s = video.glance_distance_s
            known = np.where(distance_s <= 1.0, 1.0, np.where(distance_s > 10.0, 0.0, _UNKNOWN))
            truth[name] = known if is_abnormal else np.zeros(count)
            videos.append(video)
    ordered = tuple(sorted(videos, key=lambda video: video.video_id))
    corpus = Corpus(videos=ordered, encoder="npy", dim=arrays[ordered[0].video_id].shape[1], stride_frames=16)
    return RealSet(name="ucf_c3d", corpus=corpus, folds=_share_out(ordered, 5), truth=truth)


def _labelled(  # noqa: PLR0917 - as the columns of a table
    name: str, path: Path, count: int, snippet_s: float, is_abnormal: bool, glances: Sequence[int]
) -> LabelledVideo:
    return LabelledVideo(
        video_id=name, path=path, num_snippets=count, snippet_s=snippet_s, is_abnormal=is_abnormal,
        glances=tuple(glances), split="train", copies=name, content=name, sha256=name,
    )  # fmt: skip
