"""Finds the abnormal spans of videos by a trained sampler, and has a video model judge and explain them.

With spans, the model is asked about each of them, and about each part of one in which the scores dip: parts of which
it says the same are one span, trimmed to the slices that the model says Yes to. A span that it says No to stays
listed with that answer, but does not count: the video is abnormal where any other is left, and the highest one speaks
for it. Scores a little below theta, or else the highest ones, make a span where the model says Yes. Without a span it
is asked about the whole video, and the video is what the model says: where that is Yes, the slices that it says Yes to
are a span. Without a sampler it is asked about every part, and those that it answers Yes to are the spans. So
`is_anomaly` never contradicts the answer.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError, SetupError
from pipeline.features.base import num_snippets, snippet_edges
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.infer.ends import find_ends
from pipeline.infer.frames import Footage, choose_frames, open_footage
from pipeline.infer.judgement import Judgement, confidence_of, judge, judge_video, judgement_of, leading_span
from pipeline.infer.live import UNIFORM_SCORE, LiveTools, OnSpan, recorder_for, watch
from pipeline.infer.parts import JudgedPart, unite
from pipeline.infer.scoring import VideoScorer
from pipeline.infer.settings import DetectSettings, default_question
from pipeline.models.clip_frames import ClipFrames, read_clip
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.vllm_model import VllmChat
from pipeline.prompts import Message
from pipeline.records import Reason
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.proposals import detect, part_at_dips
from pipeline.sampler.sampling import THETA
from pipeline.video.live import is_live
from pipeline.video.losses import FrameSpan, Losses, find_losses
from pipeline.video.pyav_decoder import noting_damage
from pipeline.video.readers import FrameReader
from pipeline.video.recorder import StreamRecorder
from pipeline.video.timeline import Timeline

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_DOUBTED = 0.7
"""Fraction of theta from which scores are worth a look by a video model."""

_SMALLER = 0.5
"""Fraction of a video that a part must not exceed to be looked at for itself."""

_LIVE_CLIPS = 16
"""Spans of streams whose frames are kept for further questions."""


class Detector:
    """Finds and explains anomalies in one video after the other; models are loaded once.

    Attributes:
        settings: as given.
        question: what the video model is asked about every span.
        theta: the score from which a peak makes a span.
    """

    def __init__(self, settings: DetectSettings) -> None:
        """Load the sampler and the video model, whichever the settings name.

        Raises:
            SetupError: one of them cannot be loaded, or the device is not there.
        """
        self.settings = settings
        self.question = settings.question or default_question()
        self._scorer: VideoScorer | None = None
        self._chat: VideoChat | None = None
        adapter: str | None = None
        if settings.sampler is not None:
            self._scorer = VideoScorer(Path(settings.sampler), settings.features, settings.device)
        else:
            logger.info("no sampler: frames are sampled uniformly")
        if settings.model_path is not None:
            source = settings.source_of(settings.model_path)
            if settings.engine == "vllm":
                self._chat = VllmChat(source, settings.max_new_tokens)
            else:
                self._chat = VideoChat(source, settings.device, settings.max_new_tokens)
            adapter = source.adapter
        self._num_frames, self._max_side = settings.frames_shown(adapter)
        self.theta = _theta(settings, self._scorer)
        self._live_clips: dict[tuple[str, float, float], ClipFrames] = {}
        self._shown: tuple[str, FrameSpan, ClipFrames] | None = None

    @property
    def explains(self) -> bool:
        """Whether there is a video model."""
        return self._chat is not None

    @property
    def scores(self) -> bool:
        """Whether there is a sampler."""
        return self._scorer is not None

    def recorder(self) -> StreamRecorder:
        """Return what keeps enough of a stream to cut the longest span from it when it is told."""
        return recorder_for(self.settings, self._scorer)

    def detect(self, video: str | Path, on_progress: Progress | None = None) -> Detection:
        """Find the abnormal spans of a video file and explain them.

        The file is decoded once for the scores; then the frames of each span are read by seeking.

        Raises:
            RecordError: the file is no video that can be read to its end, or the model cannot take its frames.
            SetupError: the model cannot take such input at all, or the sampler's features are of another kind.
        """
        if is_live(str(video)):
            return self.watch(str(video))
        with noting_damage() as damaged:
            footage = open_footage(Path(video), self.settings.reader)
            # Scoring reads the whole video, so that its damage is known then; judging parts of it reads those.
            losses_of = cache(partial(_losses, footage, damaged))
            curve = self._curve(footage, lambda: self._long(losses_of(), footage.timeline), on_progress)
            if curve is None:
                windows = list(footage.parts(self.settings.window_s))
                said_of = zip(windows, self._judged(footage, None, windows, on_progress), strict=True)
                told, whole = [(span, said) for span, said in said_of if said is not None], Judgement()
            else:
                told, whole = self._told(footage, curve, on_progress)
            losses = losses_of()
        spans = [
            DetectedSpan(
                start_s=start_s,
                end_s=end_s,
                score=_highest(curve, span),
                answer=said.answer,
                confidence=said.confidence,
                consistent=said.consistent,
            )
            for span, said in told
            for start_s, end_s in [footage.seconds_of(span)]
        ]
        timeline = footage.timeline
        judged = [said for _, said in told] or [whole]
        is_anomaly, said, spans = judge_video(spans, judged, has_scores=curve is not None)
        is_there = np.zeros(0, bool) if curve is None else _has_frames(curve, losses)
        return Detection(
            video=str(video),
            fps=timeline.fps,
            duration_s=timeline.duration_s,
            is_anomaly=is_anomaly,
            answer=said.answer,
            confidence=said.confidence,
            consistent=said.consistent,
            spans=tuple(spans),
            times_s=np.zeros(0) if curve is None else _middles_s(footage.timeline, curve.edges)[is_there],
            scores=np.zeros(0, np.float32) if curve is None else curve.scores.astype(np.float32)[is_there],
            lost=losses.spans,
        )

    def watch(self, url: str, on_span: OnSpan | None = None, recorder: StreamRecorder | None = None) -> Detection:
        """Find the abnormal spans of a stream as it comes, and explain them; `on_span` is told each when it is over.

        A `recorder`, as `recorder()` makes one, can then cut a clip of the span.

        Raises: as `detect`, and RecordError where the stream cannot be reached.
        """
        tools = LiveTools(
            scorer=self._scorer,
            judge=None if self._chat is None else partial(self._live_judgement, self._chat, url),
            theta=self.theta,
            num_frames=self._num_frames,
            max_side=self._max_side,
            settings=self.settings,
        )
        return watch(url, tools, on_span, recorder)

    def ask(
        self,
        video: str | Path | Detection,
        question: str,
        history: Sequence[Message] = (),
        span: DetectedSpan | tuple[float, float] | None = None,
    ) -> str:
        """Return what the model answers to a question about a video.

        Args:
            video: the file, or what was detected in it.
            question: any question.
            history: turns of user and assistant so far, e.g. the question and answer of the detection.
            span: what the model is shown, in seconds; None is the span that spoke for the video, otherwise all of it.

        Raises:
            SetupError: there is no video model, or it cannot take such input at all.
            RecordError: as `detect`.
        """
        if self._chat is None:
            raise SetupError("a question needs a video model (model_path): there is none")
        detection = video if isinstance(video, Detection) else None
        name = str(video) if detection is None else detection.video
        if span is None and detection is not None:
            span = leading_span(detection.spans)
        if isinstance(span, DetectedSpan):
            span = span.start_s, span.end_s
        if is_live(name):
            return self._chat.answer(self._live_clip(name, detection, span), question, history)
        footage = open_footage(Path(name), self.settings.reader)
        frames = footage.whole if span is None else footage.frames_of(*span)
        curve = None
        if detection is not None and self._scorer is not None and len(detection.scores):
            stride = self._scorer.sampler.stride_frames
            count = num_snippets(footage.timeline.num_frames, stride)
            edges = snippet_edges(footage.timeline.num_frames, count, stride)
            scores = np.interp(_middles_s(footage.timeline, edges), detection.times_s, detection.scores)
            curve = ScoreCurve(scores, stride, footage.timeline.num_frames, footage.timeline.fps)
        if self._shown is None or self._shown[:2] != (name, frames):
            with footage.opened(self._max_side) as reader:
                self._shown = name, frames, self._clip(reader, frames, curve)
        return self._chat.answer(self._shown[2], question, history)

    def _told(
        self, footage: Footage, curve: ScoreCurve, on_progress: Progress | None
    ) -> tuple[list[tuple[FrameSpan, Judgement]], Judgement]:
        """Return the spans with what the model says of each, and what it says of the whole video where there is none.

        Where the scores dip, the parts of a span are judged one by one. The model also sees what stays a little below
        theta, or where nothing does, the highest scores: what it says Yes to there is a span all the same.
        """
        if self._chat is None:
            return [(span, Judgement()) for span in self._marked(curve, self.theta)], Judgement()
        looked_at = self._marked(curve, _DOUBTED * self.theta) or self._highest_part(curve)
        config, min_s = self.settings.proposal, self.settings.min_span_s
        parts = [
            (part, number)
            for number, span in enumerate(looked_at)
            for part in part_at_dips(curve, span, config, min_s=min_s)
        ]
        judged = self._judged(footage, curve, [part for part, _ in parts], on_progress)
        united = unite(
            JudgedPart(part, number, said or Judgement()) for (part, number), said in zip(parts, judged, strict=True)
        )
        smooth = curve.smoothed(config.smooth_s)
        told = [(span, said) for span, said in united if said.verdict or smooth[slice(*span)].max() >= self.theta]
        if told:
            return self._refined(footage, curve, told) if self.settings.refine else told, Judgement()
        [whole] = self._judged(footage, curve, [footage.whole], on_progress)
        if whole is not None and whole.verdict and self.settings.refine:
            found = self._refined(footage, curve, [(footage.whole, whole)])
            if found[0][0] != footage.whole:
                return found, whole
        return [], whole or Judgement()

    def _refined(
        self, footage: Footage, curve: ScoreCurve, told: list[tuple[FrameSpan, Judgement]]
    ) -> list[tuple[FrameSpan, Judgement]]:
        """Return the spans, those that the model says Yes to with the ends that it finds."""
        chat = self._chat
        assert chat is not None  # noqa: S101 - without a video model nothing is told
        with footage.opened(self._max_side) as reader:

            def says_yes(part: FrameSpan) -> bool:
                try:
                    found = confidence_of(chat, self._clip(reader, part, curve), self.question)
                except RecordError as fault:
                    if fault.reason is not Reason.DECODE_FAILED:
                        raise
                    return False
                return judgement_of(None, found) is True

            fps = footage.timeline.fps
            return [(find_ends(span, fps, says_yes) if said.verdict else span, said) for span, said in told]

    def _marked(self, curve: ScoreCurve, theta: float) -> list[FrameSpan]:
        found = detect(curve, theta, self.settings.proposal, min_s=self.settings.min_span_s)
        return [(span.start_frame, span.end_frame) for span in found]

    def _highest_part(self, curve: ScoreCurve) -> list[FrameSpan]:
        """Return the span around the highest score; none where the scores single out no smaller part of the video."""
        top = float(curve.smoothed(self.settings.proposal.smooth_s).max())
        span = max(self._marked(curve, top), key=lambda span: curve.mean(*span))
        return [span] if span[1] - span[0] <= _SMALLER * curve.num_frames else []

    def _long(self, losses: Losses, timeline: Timeline) -> list[FrameSpan]:
        """Return the losses that part a span: like a dip of the scores, from `proposal.gap_s` on."""
        gap_s = self.settings.proposal.gap_s
        return [timeline.frame_range(*span) for span in losses.spans if span[1] - span[0] >= gap_s]

    def _curve(
        self, footage: Footage, long_losses: Callable[[], list[FrameSpan]], on_progress: Progress | None
    ) -> ScoreCurve | None:
        if self._scorer is None:
            return None
        scored = None if on_progress is None else partial(on_progress, "score")
        return self._scorer.score(footage.path, footage.timeline, footage.reader, scored, long_losses)

    def _judged(
        self, footage: Footage, curve: ScoreCurve | None, frames: Sequence[FrameSpan], on_progress: Progress | None
    ) -> Iterator[Judgement | None]:
        """Yield what the model says of each stretch of frames, where there is one; None where too little decodes.

        Raises:
            RecordError: it cannot take a clip, or too little decodes anywhere.
        """
        chat = self._chat
        assert chat is not None  # noqa: S101 - without a video model nobody asks
        is_any = False
        with (
            footage.opened(self._max_side) as reader,
            closing(_read_ahead(partial(self._clip, reader, curve=curve), frames)) as clips,
        ):
            for number, (span, reading) in enumerate(zip(frames, clips, strict=True), 1):
                try:
                    clip = reading.result()
                except RecordError as fault:
                    if fault.reason is not Reason.DECODE_FAILED or (span == frames[-1] and not is_any):
                        raise
                    logger.warning("%s: not judged between %.1f s and %.1f s", fault.detail, *footage.seconds_of(span))
                    yield None
                    continue
                is_any = True
                yield self._judgement(chat, str(footage.path), clip, *footage.seconds_of(span))
                if on_progress is not None:
                    on_progress("explain", number, len(frames))

    def _judgement(self, chat: VideoChat, video: str, clip: ClipFrames, start_s: float, end_s: float) -> Judgement:
        return judge(chat, clip, self.question, f"{video}: {start_s:.1f} s to {end_s:.1f} s")

    def _live_judgement(self, chat: VideoChat, url: str, clip: ClipFrames, start_s: float, end_s: float) -> Judgement:
        self._live_clips[url, start_s, end_s] = clip
        if len(self._live_clips) > _LIVE_CLIPS:
            del self._live_clips[next(iter(self._live_clips))]
        return self._judgement(chat, url, clip, start_s, end_s)

    def _live_clip(self, url: str, detection: Detection | None, span: tuple[float, float] | None) -> ClipFrames:
        """Return what was judged of a stream at that time: it cannot be read again."""
        start_s, end_s = span or (0.0, 0.0 if detection is None else detection.duration_s)
        clip = self._live_clips.get((url, start_s, end_s))
        if clip is None:
            detail = f"{url}: the frames of {start_s:.1f} s to {end_s:.1f} s are gone: a stream is read once"
            raise RecordError(Reason.FRAME_OUT_OF_RANGE, detail)
        return clip

    def _clip(self, reader: FrameReader, span: FrameSpan, curve: ScoreCurve | None) -> ClipFrames:
        method = self.settings.sampling
        indices = choose_frames(reader.timeline, span, self._num_frames, curve=curve, method=method, theta=self.theta)
        return read_clip(reader, indices, span)


def _read_ahead(read: Callable[[FrameSpan], ClipFrames], spans: Sequence[FrameSpan]) -> Generator[Future[ClipFrames]]:
    """Yield what will be the frames of each span; those of the next one are read while the caller works."""
    with ThreadPoolExecutor(1) as reader:
        begun: deque[Future[ClipFrames]] = deque()
        for span in spans:
            # What is noted of damage is noted in the caller's context.
            begun.append(reader.submit(copy_context().run, read, span))
            if len(begun) > 1:
                yield begun.popleft()
        yield from begun


def _theta(settings: DetectSettings, scorer: VideoScorer | None) -> float:
    if settings.theta is not None:
        return settings.theta
    return THETA if scorer is None else scorer.sampler.theta


def _highest(curve: ScoreCurve | None, span: FrameSpan) -> float:
    if curve is None:
        return UNIFORM_SCORE
    first, last = span[0] // curve.stride_frames, -(-span[1] // curve.stride_frames)
    return float(curve.scores[first:last].max())


def _losses(footage: Footage, damaged: set[Path]) -> Losses:
    return find_losses(footage.path, footage.timeline, is_damaged=footage.path in damaged)


def _has_frames(curve: ScoreCurve, losses: Losses) -> NDArray[np.bool_]:
    """Return whether any frame of a snippet decodes, shape (T,)."""
    lost = np.diff(np.searchsorted(losses.frames, curve.edges))
    return np.asarray(lost < np.diff(curve.edges))


def _middles_s(timeline: Timeline, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the time in the middle of every snippet, of its middle frame where a pause lies inside: shape (T,)."""
    starts_s = timeline.times_s[edges[:-1]]
    ends_s = np.array([timeline.end_time_of(frame) for frame in (edges[1:] - 1).tolist()])
    before = np.searchsorted(timeline.before_pauses, edges)
    with_pause = np.flatnonzero(np.searchsorted(timeline.before_pauses, edges[1:] - 1) > before[:-1])
    middles_s: NDArray[np.float64] = (starts_s + ends_s) / 2
    middles_s[with_pause] = timeline.times_s[(edges[with_pause] + edges[with_pause + 1]) // 2]
    return middles_s
