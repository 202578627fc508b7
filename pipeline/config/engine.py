"""Settings of the stages that read videos and annotations, cut clips, filter and export."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.language import JudgeConfig
from pipeline.config.section import Fraction, Seconds, Section, added, operational
from pipeline.records import CONFLICTS, Reason

OnConflict = Literal["drop", "keep"]
Reader = Literal["auto", "pyav", "decord", "nvdec"]


class VideoConfig(Section):
    """How video files are read, in worker processes that can neither hang nor exhaust the machine."""

    reader: Reader = Field(
        "auto",
        description="decoder; auto is pyav, exact on every file; decord and nvdec (torchcodec on an "
        "NVIDIA GPU) refuse files on which they are not",
    )
    workers: int = operational(0, ge=0, description="worker processes for decoding; 0: one per core")
    timeout_s: Seconds = operational(600.0, description="seconds that one file may take before its worker is killed")
    memory_mb: int = operational(4096, ge=512, description="memory one worker may use above its start, in MiB")

    def identity(self) -> dict[str, Any]:
        """Return what decides pixels: decord and NVDEC scale in ways of their own; auto and pyav are one decoder."""
        return {"reader": self.reader} if self.reader in ("decord", "nvdec") else {}


class IngestConfig(Section):
    """Which videos are used, and what is known about them."""

    label_from_name: bool = Field(True, description="read missing labels from UCF-Crime and XD-Violence file names")
    unlabelled: Literal["skip", "normal"] = Field("skip", description="what happens to a video without label and click")
    verify: Literal["packets", "decode"] = Field(
        "packets",
        description="packets: compare index with packets and decode both ends; decode: decode every frame once",
    )
    max_lost: float = Field(
        0.2, ge=0, le=1, description="share of a video's frames that may be lost; a video that lost more is rejected"
    )


class GlancesConfig(Section):
    """How clicks become glances."""

    taxonomy: str = Field(
        "auto", description="class names to accept: auto, or the name of a file in datasets/taxonomies"
    )
    frame_rate: float | None = Field(
        None, gt=0, description="frame rate of Label Studio projects whose tasks lack it; null: that of the video"
    )
    spans: Literal["ignore", "middle"] = Field(
        "ignore",
        description="events with start and end in an annotation file. ignore: they are no clicks; middle: each gives "
        "one click, on its middle",
    )
    policy: Literal["union", "majority", "one"] = Field(
        "union",
        description="whose clicks count if several people annotated a video. union: all, each event once; majority: "
        "those of more than half of the annotators; one: those of annotator",
    )
    annotator: str | None = Field(None, description="policy one: the annotator, as exported")
    tolerance_s: float = Field(
        1.0,
        ge=0,
        description="clicks of one class by different people count as one event up to this many seconds apart; an "
        "Ignore mark cancels clicks within the same distance",
    )

    @model_validator(mode="after")
    def _named(self) -> GlancesConfig:
        if (self.policy == "one") != (self.annotator is not None):
            raise ValueError(
                f"policy={self.policy} with annotator={self.annotator}: policy one and annotator go together"
            )
        return self


class ProposalConfig(Section):
    """How spans are read from anomaly scores. Fractions count from a video's calm level up to a glance's score."""

    smooth_s: float = Field(0.5, ge=0, description="standard deviation of the smoothing over time, in seconds; 0: none")
    level: Fraction = Field(0.2, description="quantile of a video's smoothed scores that counts as its calm level")
    peak_s: float = Field(
        1.0, ge=0, description="a glance's score is the highest smoothed one within this many seconds of it"
    )
    low: Fraction = Field(
        0.5,
        description="a span extends while scores stay above this fraction; smoothing leaves the edges of an event "
        "half-way",
    )
    high: Fraction = Field(0.7, description="after a dip below low, a span continues only where scores exceed this")
    alpha: Fraction = Field(
        0.9, description="no threshold exceeds alpha times the glance's score: a video may be abnormal throughout"
    )
    gap_s: float = Field(1.0, ge=0, description="longest dip below low inside a span, in seconds")
    max_s: Seconds = Field(
        60.0, description="longest span, in seconds; of a longer one, the part with the highest scores is kept"
    )
    nested: int = Field(1, ge=1, le=10, description="proposals per click: the widest, then tighter ones inside it")

    @model_validator(mode="after")
    def _order(self) -> ProposalConfig:
        if self.low > self.high:
            raise ValueError(f"low={self.low} exceeds high={self.high}")
        return self


class ClipsConfig(Section):
    """Which spans become event clips."""

    method: Literal["window", "sampler"] = Field(
        "window", description="window: centred on the click; sampler: the span that the anomaly scores support"
    )
    window_s: Seconds = Field(10.0, description="length of a click-centred window in seconds")
    proposal: ProposalConfig = Field(ProposalConfig(), description="sampler: from scores to spans")
    min_s: Seconds = Field(1.0, description="shortest clip kept, in seconds")
    whole_max_s: float = Field(
        20.0, ge=0, description="an abnormal video without a click is used whole up to this length in seconds; 0: never"
    )
    normal_per_video: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="mean number of random segments per normal video; null: as many as an abnormal video has clips",
    )
    normal_lengths: Literal["follow", "keep"] = Field(
        "follow",
        description="follow: normal segments are as long as the abnormal clips are now; keep: as they were when first "
        "measured, so that further clicks move none",
    )
    calm_stretches: int = Field(
        1,
        ge=0,
        le=20,
        description="sampler: normal clips of an abnormal video, where scores are highest away from its clicks, mostly "
        "of what an event leaves behind; 0 where not every event is clicked",
    )
    files: Literal["encode", "reference"] = Field(
        "encode", description="encode writes an H.264 file per clip; reference reads the span from the source video"
    )
    seed: int = Field(0, description="seed of the random segments")
    splits: list[Literal["train", "validation", "test"]] = operational(
        ["train", "validation", "test"], min_length=1, description="splits whose videos give clips, and rows of them"
    )

    @model_validator(mode="after")
    def _lengths(self) -> ClipsConfig:
        if self.min_s > self.window_s:
            raise ValueError(f"min_s={self.min_s} exceeds window_s={self.window_s}")
        if self.min_s > self.proposal.max_s:
            raise ValueError(f"min_s={self.min_s} exceeds proposal.max_s={self.proposal.max_s}")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what the stage makes: of the proposals only where they are used.

        Whether lengths follow the clicks is none: a segment is made anew where its own place has changed.
        """
        kept = super().identity()
        del kept["normal_lengths"]
        if self.method == "window":
            del kept["proposal"], kept["calm_stretches"]
        return kept


class ConflictsConfig(Section):
    """What happens to a pair whose label, caption and answer are at odds; what people decided about it stands."""

    event_in_normal: OnConflict = Field("drop", description="the caption tells of an event, the label is Normal")
    other_event: OnConflict = Field(
        "drop",
        description="the caption, unless by people, tells of another class of events than the label",
    )
    contradiction: OnConflict = Field(
        "drop", description="the answer contradicts itself, or tells of an event that neither label nor caption knows"
    )
    nothing_seen: OnConflict = Field(
        "keep", description="the caption of an abnormal clip tells of no event that the taxonomies have phrases for"
    )

    def dropped(self) -> frozenset[Reason]:
        """Return the conflicts that drop a pair."""
        return frozenset(reason for reason in CONFLICTS if getattr(self, reason) == "drop")


class FilterConfig(Section):
    """Which answers are dropped by rule, and where human verdicts come from."""

    verdicts: list[str] = Field([], description="files of human verdicts: Parquet, CSV or JSONL of Verdict rows")
    judge: JudgeConfig = Field(JudgeConfig(), description="a language model that judges the pairs that pass the rules")
    conflicts: ConflictsConfig = Field(
        ConflictsConfig(), description="drop or keep pairs whose label, caption and answer are at odds"
    )
    min_words: int = Field(5, ge=1, description="shortest answer in words")
    max_words: int = Field(200, ge=1, description="longest answer in words")
    language: Literal["en", "any"] = Field("en", description="language of the answers; any accepts all")
    min_support: Fraction = Field(
        0.0, description="smallest share of an answer's content words that must occur in caption, label or question"
    )
    max_copies: int = Field(20, ge=1, description="near-duplicate answers allowed per task, over all videos")
    share_from: int = Field(200, ge=1, description="number of pairs per task above which the two shares below apply")
    max_question_share: float = Field(
        0.5, gt=0, le=1, description="largest share of a task's pairs that may have the same question"
    )
    max_opening_share: float = Field(
        0.5, gt=0, le=1, description="largest share of a task's answers that may start with the same four words"
    )
    near_duplicate: Fraction = Field(
        0.9,
        description="Jaccard similarity of word trigrams at which a repeated answer of one video and task is dropped",
    )

    @model_validator(mode="after")
    def _lengths(self) -> FilterConfig:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words={self.min_words} exceeds max_words={self.max_words}")
        return self


class ExportConfig(Section):
    """How the dataset is written."""

    embed_videos: bool = Field(False, description="store the clip files' bytes in the Parquet shards")
    rows_per_shard: int = Field(10_000, ge=1, description="rows per Parquet shard")
    row_group_rows: int = Field(500, ge=1, description="rows per row group")
    validation_fraction: Fraction = Field(0.1, description="share of videos without a split that go to validation")
    test_fraction: Fraction = Field(0.0, description="share of videos without a split that go to test")
    name: str = Field("", description="title of the dataset card; empty: the name of the workspace")
    published: str = added(
        "auto",
        description="published dataset whose figures stand beside those of this one in card and report: a file of "
        "datasets/published; auto: that of the same footage; none",
    )
    license: str = Field("other", description="license field of the dataset card: that of your footage")

    @model_validator(mode="after")
    def _fractions(self) -> ExportConfig:
        if self.validation_fraction + self.test_fraction > 1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} + test_fraction={self.test_fraction} exceed 1"
            )
        return self
