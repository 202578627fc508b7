"""The records of the engine: frozen, slotted, keyword-only, linked by id, nothing nested.

Times are seconds of presentation time with the first frame of a video at 0.0. Frame indices count the frames
that a decoder puts out, from 0. Every interval is half-open: [start, end). Each record has one Arrow schema in
`pipeline.schema`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]

NORMAL = "Normal"
"""The label of a video or clip in which nothing abnormal happens."""

ABNORMAL = "Abnormal"
"""The class of an event of which nobody has said what it is: a click without a class, in a video without one."""

CALM = "calm"
"""The method of normal clips of abnormal videos, beside their events."""

_SPANS_TOLD = 5


class Reason(StrEnum):
    """Why a record was left out. The detail beside it names the value and the limit."""

    # ingest
    FILE_MISSING = "file_missing"
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    EMPTY_FILE = "empty_file"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    UNSUPPORTED_CODEC = "unsupported_codec"
    TRUNCATED = "truncated"
    BAD_TIMESTAMPS = "bad_timestamps"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    DUPLICATE_VIDEO_ID = "duplicate_video_id"
    MALFORMED_ROW = "malformed_row"
    NO_FOOTAGE = "no_footage"
    DIFFERING_COPY = "differing_copy"
    FURTHER_COPY = "further_copy"
    UNLISTED = "unlisted"
    # glances
    MISSING_VIDEO = "missing_video"
    AMBIGUOUS_VIDEO = "ambiguous_video"
    FRAME_OUT_OF_RANGE = "frame_out_of_range"
    UNKNOWN_CATEGORY = "unknown_category"
    DUPLICATE_GLANCE = "duplicate_glance"
    LABEL_CONFLICT = "label_conflict"
    FRAME_RATE_CONFLICT = "frame_rate_conflict"
    SKIPPED_ANNOTATION = "skipped_annotation"
    IGNORED_CLICK = "ignored_click"
    MINORITY_CLICK = "minority_click"
    OTHER_ANNOTATOR = "other_annotator"
    # clips
    NO_SCORES = "no_scores"
    NO_GLANCE = "no_glance"
    NO_LABEL = "no_label"
    CLIP_TOO_SHORT = "clip_too_short"
    DECODE_FAILED = "decode_failed"
    # features and score
    NO_FEATURES = "no_features"
    BAD_FEATURES = "bad_features"
    # caption and synthesize
    BLANK_PICTURE = "blank_picture"
    NO_CAPTION = "no_caption"
    UNFIT_INPUT = "unfit_input"
    EMPTY_TEXT = "empty_text"
    BAD_RESPONSE = "bad_response"
    REQUEST_FAILED = "request_failed"
    CONTENT_FILTER = "content_filter"
    # filter
    WRONG_VERDICT = "wrong_verdict"
    LEAKED_PROMPT = "leaked_prompt"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    REFUSAL = "refusal"
    REPETITION = "repetition"
    BROKEN_TEXT = "broken_text"
    CONTROL_TOKEN = "control_token"  # noqa: S105 - a reason, no secret
    OTHER_LANGUAGE = "other_language"
    FIRST_PERSON = "first_person"
    INVENTED_TIME = "invented_time"
    NEAR_DUPLICATE = "near_duplicate"
    CROWDED_QUESTION = "crowded_question"
    CROWDED_OPENING = "crowded_opening"
    EVENT_IN_NORMAL = "event_in_normal"
    OTHER_EVENT = "other_event"
    NOTHING_SEEN = "nothing_seen"
    CONTRADICTION = "contradiction"
    UNSUPPORTED = "unsupported"
    JUDGED_POOR = "judged_poor"
    REVIEWER_REJECTED = "reviewer_rejected"
    MISSING_PAIR = "missing_pair"
    STALE_ANSWER = "stale_answer"


RULES = "rules"
"""The reviewer named in verdicts that no person gave."""

CONFLICTS = (Reason.EVENT_IN_NORMAL, Reason.OTHER_EVENT, Reason.CONTRADICTION, Reason.NOTHING_SEEN)
"""Reasons for which label, caption and answer are at odds; settings say which of them drop a pair, people overrule."""


class Task(StrEnum):
    """What an instruction pair asks of the model."""

    JUDGE_EXPLAIN = "judge_explain"
    DESCRIPTION = "description"
    ANALYSIS = "analysis"
    CAPTION = "caption"


class Level(StrEnum):
    """What a row is about, as in HIVAU-70k: a clip, the clips of one event, or the whole video."""

    CLIP = "clip"
    EVENT = "event"
    VIDEO = "video"


class Decision(StrEnum):
    """What a reviewer, or the rules, decided about an instruction pair."""

    ACCEPT = "accept"
    EDIT = "edit"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of a table. Its fields are text, whole numbers and floats, or None where the type says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Record):
    """One readable video file. `width` and `height` are as shown, after rotation; `label` is None where unknown.

    `fps` is the mean rate measured from the timestamps; `split` is None unless the manifest names one: `VideoSplit` has
    what was decided. `lost` is a JSON list of the stretches [start_s, end_s) that ingest found without a picture, and
    `lost_frames` one of the frames [start, end) in each: of a pause, or an end that is missing, both are the same. A
    video without footage is known by its row in a manifest alone: `path` and `codec` are empty, `width` and `height`
    0, and `sha256` is that of its id, length and rate.
    """

    video_id: str
    path: str
    sha256: str
    fps: float
    num_frames: int
    duration_s: float
    width: int
    height: int
    codec: str
    label: str | None
    split: str | None
    source: str
    lost: str | None = None
    lost_frames: str | None = None

    @property
    def lost_spans(self) -> tuple[tuple[float, float], ...]:
        """What `lost` holds, in time order."""
        return tuple((start_s, end_s) for start_s, end_s in json.loads(self.lost or "[]"))

    def long_losses(self, least_s: float) -> tuple[tuple[int, int], ...]:
        """Return the frames [start, end) of the stretches without a picture that last `least_s` or more."""
        frames: list[tuple[int, int]] = json.loads(self.lost_frames or "[]")
        return tuple(
            (start, end)
            for (start, end), (start_s, end_s) in zip(frames, self.lost_spans, strict=False)
            if end_s - start_s >= least_s
        )

    @property
    def has_footage(self) -> bool:
        """Whether there is a file with pictures."""
        return bool(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Record):
    """Thumbnails of the footage with this hash, as text, by which copies of it are known."""

    sha256: str
    pictures: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSplit(Record):
    """Where a video belongs in everything that trains or measures: train, validation or test.

    Copies of one another bear the same `copies`, the lowest hash among them. `decided_by` is `manifest` or `draw`;
    `note` is what a person should know of how it came about.
    """

    video_id: str
    sha256: str
    copies: str
    split: str
    decided_by: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance(Record):
    """One click of an annotator on one frame inside an abnormal event; `origin` is the file and place it stood in."""

    video_id: str
    time_s: float
    frame_index: int
    category: str
    annotator: str | None
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFile(Record):
    """The features of a video: a file of float16, shape (crops, num_snippets, dim).

    Snippet t covers the frames [t * stride_frames, (t + 1) * stride_frames), the last one as many as are left; where
    stride_frames is 0, snippets are equal parts of the video. `path` is relative to the workspace; `sha256` is that of
    the file.
    """

    video_id: str
    encoder: str
    crops: int
    num_snippets: int
    dim: int
    stride_frames: int
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Record):
    """The anomaly scores of a video: a file of float32, shape (num_snippets,), in [0, 1].

    Snippets, `path` and `sha256` as for `FeatureFile`; `sampler` names the weights.
    """

    video_id: str
    path: str
    num_snippets: int
    stride_frames: int
    sampler: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventClip(Record):
    """A span of a video with one label. `glance_time_s` is None for clips that no click stands in.

    `method` says how the span came about; `event` and `video` are those of the other levels.
    """

    clip_id: str
    video_id: str
    start_s: float
    end_s: float
    start_frame: int
    end_frame: int
    glance_time_s: float | None
    label: str
    anomaly_score: float | None
    method: str

    @property
    def level(self) -> Level:
        """What rows about this span are about."""
        return Level(self.method) if self.method in (Level.EVENT, Level.VIDEO) else Level.CLIP


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption(Record):
    """A sentence or a few about what is seen in a clip. `prompt_hash` is None for captioners without a prompt.

    `agreement` in [0, 1] is how far several captions agreed, of which this holds what they share; None for one alone.
    """

    clip_id: str
    text: str
    captioner: str
    prompt_hash: str | None
    agreement: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionPair(Record):
    """A question about a clip and the answer to learn. `raw_response` keeps the model's text as it came."""

    pair_id: str
    clip_id: str
    task: str
    question: str
    answer: str
    label: str
    llm: str
    prompt_hash: str
    raw_response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Record):
    """A decision about a pair; `edited_answer` is set for edits alone, `reviewed_at` (ISO 8601) for people alone.

    `original_answer` is the answer that a person decided about; None where it is not known, and where rules decided.
    `support` is the share of the answer's content words that caption, label and question hold, in [0, 1], as the filter
    stage measures it, and `judge_score`, from 1 to 5, what a language model gave it where one was asked. `conflict` is
    the reason out of `CONFLICTS` for which the pair is doubted although it was kept.
    """

    pair_id: str
    decision: str
    edited_answer: str | None
    original_answer: str | None
    reviewer: str
    reviewed_at: str | None
    support: float | None = None
    judge_score: float | None = None
    conflict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem(Record):
    """A pair as a reviewer sees it, and from `decision` on what the reviewer says of it: None until then.

    `answer_hash` tells, when the item comes back, whether the answer is still the one that was shown. `clip_path` is
    the clip's own file, or the video in which it is the span [start_s, end_s). `rating` goes from 1, poor, to 5, and
    `lead_time_s` is how long the reviewer took, None where no tool has measured it. `conflict` is why the pair is
    doubted, one of `CONFLICTS`.
    """

    pair_id: str
    clip_id: str
    video_id: str
    clip_path: str
    start_s: float
    end_s: float
    label: str
    caption: str
    task: str
    question: str
    answer: str
    answer_hash: str
    decision: str | None
    edited_answer: str | None
    reviewer: str | None
    reviewed_at: str | None
    rating: int | None
    reason: str | None
    lead_time_s: float | None = None
    conflict: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(Record):
    """A record that was left out, at which stage and why."""

    record_id: str
    stage: str
    reason: str
    detail: str


# Millions of keys are made by the one: `json.JSONEncoder` makes what it encodes with anew for each, which takes longer
# than the encoding. In order: default, encoder, indent, separators, sort_keys, skipkeys, allow_nan.
_to_json = c_make_encoder(None, str, encode_basestring_ascii, None, ":", ",", True, False, True)


def digest(*parts: object) -> str:
    """Hash JSON-able `parts` into 32 hex digits, the same on every machine and in every run."""
    return hashlib.blake2b("".join(_to_json(parts, 0)).encode(), digest_size=16).hexdigest()


_NO_SLUG = re.compile(r"[^A-Za-z0-9._-]")


def slug(text: str, max_length: int = 80) -> str:
    """Return `text` reduced to letters, digits, dot, dash and underscore, fit for a file name."""
    kept = _NO_SLUG.sub("_", text)
    return kept.lstrip(".")[:max_length] or "_"


def readable_id(name: str, *parts: object) -> str:
    """Join a readable name and 8 hex digits of the hash of `name` and `parts`: fit for a file name, stable."""
    return f"{slug(name)}_{digest(name, *parts)[:8]}"


def count_by(values: Iterable[str]) -> dict[str, int]:
    """Count equal values, most frequent first, ties by name."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def told_spans(spans: Sequence[tuple[float, float]]) -> str:
    """Return stretches [start_s, end_s) for people: the first few, and how many more there are."""
    listed = ", ".join(f"{start_s:.2f} s to {end_s:.2f} s" for start_s, end_s in spans[:_SPANS_TOLD])
    more = len(spans) - _SPANS_TOLD
    return f"{listed} and {more} more" if more > 0 else listed
