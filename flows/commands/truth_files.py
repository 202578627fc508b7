"""Which ground truth a workspace is measured against, and on which videos: that of its published datasets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from flows.commands.evaluate import WorkspaceEvaluation, evaluate_workspace
from flows.plan import read_run_config
from pipeline.config import SourcesConfig
from pipeline.errors import ConfigError, DataError, HolmesError
from pipeline.records import Video
from pipeline.sources.catalogue import Catalogue, load_catalogue
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A file of ground truth; `dataset` is the published one that it is of, None where it is of none.

    `is_about` tells of a video whether it is of that dataset: the normal videos of another one are not in the file.
    """

    path: Path
    dataset: str | None = None
    is_about: Callable[[Video], bool] = lambda _: True


def truths_of(workspace: Workspace, given: Path | None) -> Sequence[Truth]:
    """Return the file that is given, or those of the workspace's published datasets that are at hand.

    A file that is given is of the dataset whose ground truth bears its name, otherwise about all videos.

    Raises:
        ConfigError: none is given, and none is at hand.
    """
    run = workspace.read_json("run.json")
    sources, videos, folder = SourcesConfig(), list[str](), Path()
    if run is not None:
        config, folder = read_run_config(workspace)
        sources, videos = config.sources, config.videos
    path = None if given is None else given.absolute()
    found: list[Truth] = []
    published_at: list[str] = []
    with chdir(folder):
        catalogue = load_catalogue(sources, videos)
        for name, dataset in catalogue.datasets.items():
            for published in dataset.description.truth:
                published_at.append(f"{name}: {' or '.join(published.files)} ({published.url})")
                is_named = path is not None and path.name.casefold() in map(str.casefold, published.files)
                file = dataset.path_of(published) if path is None else path if is_named else None
                # without its lists it is not known which videos are of it; they are read while here is their folder
                if dataset.videos and file is not None:
                    found.append(Truth(path=file.absolute(), dataset=name, is_about=_of(catalogue, name)))
    if path is not None:
        return found or [Truth(path=path)]
    if not found:
        cure = f", or put it beside the videos: {'; '.join(published_at)}" if published_at else ""
        raise ConfigError(f"{workspace.url}: no ground truth is at hand: name it with --ground-truth FILE{cure}")
    return found


def evaluate_all(
    workspace: Workspace, truths: Sequence[Truth], *, split: str | None, theta: float | None = None
) -> Iterator[tuple[Truth, WorkspaceEvaluation]]:
    """Yield the evaluation by each file; of several, one that says nothing of these videos is named in the log.

    Raises: as `evaluate_workspace`, where none of the files gives an evaluation.
    """
    faults: list[HolmesError] = []
    for truth in truths:
        try:
            yield truth, evaluate_workspace(workspace, truth.path, split=split, theta=theta, is_about=truth.is_about)
        except (DataError, ConfigError) as fault:
            faults.append(fault)
            if len(truths) > 1:
                logger.warning("%s: not measured: %s", truth.dataset, fault)
    if len(faults) == len(truths):
        raise faults[0]


def _of(catalogue: Catalogue, dataset: str) -> Callable[[Video], bool]:
    def is_about(video: Video) -> bool:
        official = catalogue.find(video.video_id) or catalogue.find(video.path)
        return official is not None and official.source == dataset

    return is_about
