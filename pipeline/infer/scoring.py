"""The anomaly scores of a video file, in memory that hardly grows with its length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.config import FeaturesConfig
from pipeline.devices import pick_device
from pipeline.features.base import Floats, num_snippets, open_features, write_features
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
    ) -> ScoreCurve:
        """Return the scores of a video, decoded once; `on_progress` is told the snippets done, and all of them.

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
            scores = self.sampler.score(features, stride / timeline.fps)
        return ScoreCurve(scores, stride, timeline.num_frames, timeline.fps)

    def _blocks(
        self, path: Path, count: int, reader: ReaderName, on_progress: Callable[[int, int], None] | None
    ) -> Iterator[Floats]:
        done = 0
        for block in self.stream.blocks(path, self.sampler.stride_frames, reader):
            yield block
            done += block.shape[1]
            if on_progress is not None:
                on_progress(done, count)
