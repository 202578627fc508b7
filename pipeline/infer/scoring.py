"""The anomaly scores of a video file, in memory that hardly grows with its length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from pipeline.config import FeaturesConfig
from pipeline.devices import pick_device
from pipeline.features.base import (
    Floats,
    num_snippets,
    open_features,
    snippet_edges,
    snippets_that_begin,
    write_features,
)
from pipeline.features.factory import make_stream
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.model_io import load_sampler
from pipeline.video.readers import ReaderName
from pipeline.video.timeline import Timeline


class VideoScorer:
    """A trained sampler and what computes its features; the scores are those that a workspace's score stage writes."""

    def __init__(self, folder: Path, features: FeaturesConfig, device: str) -> None:
        """Load the sampler, and the encoder of its features, which sees videos as it saw those of the training.

        Raises:
            SetupError: no sampler there, no such encoder or device.
        """
        device = pick_device(device, "device")
        self.sampler = load_sampler(folder, device)
        self.stream = make_stream(self.sampler.seen_by(features).model_copy(update={"device": device}))

    def score(
        self,
        path: Path,
        timeline: Timeline,
        reader: ReaderName,
        on_progress: Callable[[int, int], None] | None = None,
        long_losses: Callable[[], Sequence[tuple[int, int]]] = tuple,
    ) -> ScoreCurve:
        """Return the scores of a video, decoded once.

        Args:
            path: the video file.
            timeline: the times of its frames.
            reader: the decoder.
            on_progress: told the snippets done, and all of them.
            long_losses: asked once all is read: the frames [start, end) without a picture that part what lies on either
                side.

        Raises:
            RecordError: where the video cannot be read to its end.
            SetupError: where the encoder's features are of another width than the sampler takes.
        """
        stride = self.sampler.stride_frames
        count = num_snippets(timeline.num_frames, stride)
        # Features lie in a file as they do in a workspace: rounded alike, and no matter how long the video is.
        with tempfile.TemporaryDirectory(prefix="holmes-") as folder:
            blocks = self._blocks(path, count, reader, on_progress)
            write_features(Path(folder) / "features.npy", count, str(path), blocks)
            features = open_features(Path(folder) / "features.npy")
            lost = tuple(long_losses())
            breaks = snippets_that_begin(chain.from_iterable(lost), snippet_edges(timeline.num_frames, count, stride))
            scores = self.sampler.score(features, stride / timeline.fps, breaks)
        return ScoreCurve(scores, stride, timeline.num_frames, timeline.fps, lost)

    def _blocks(
        self, path: Path, count: int, reader: ReaderName, on_progress: Callable[[int, int], None] | None
    ) -> Iterator[Floats]:
        done = 0
        for block in self.stream.blocks(path, self.sampler.stride_frames, reader):
            yield block
            done += block.shape[1]
            if on_progress is not None:
                on_progress(done, count)
