"""How anomalies are found and explained."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.config import FeaturesConfig, ProposalConfig
from pipeline.errors import SetupError
from pipeline.models.hf.devices import Engine
from pipeline.models.hf.explainer import ExplainerSettings
from pipeline.questions import load_questions
from pipeline.records import Task
from pipeline.sampler.sampling import SamplingMethod
from pipeline.video.readers import ReaderName


def default_question() -> str:
    """Return the question that a video model is asked where no other is given."""
    return load_questions(Task.JUDGE_EXPLAIN)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectSettings(ExplainerSettings):
    """The settings of a `Detector`; a sampler or a video model is needed, or both.

    Attributes:
        sampler: folder of a trained sampler; None samples uniformly.
        model_path: video model: an id, a folder, the name of a bundled one, or an adapter; None finds without words.
        theta: score from which a peak of the smoothed scores makes a span, in [0, 1]; None is what the sampler's own
            validation chose, or 0.8 where it chose none.
        proposal: how far a span reaches around its peak, and how scores are smoothed.
        min_span_s: shortest span in seconds.
        refine: whether the model is asked where an event begins and ends that it says Yes to.
        sampling: which frames of a span the model is shown.
        window_s: without a sampler, length in seconds of the parts that are judged one by one.
        reconnect_s: seconds for which a stream that broke off is tried again; 0 ends there.
        question: what the model is asked about each span or part.
        engine: what runs the video model.
        reader: the decoder of video files.
        features: of a vision model's features, what a sampler does not tell: pooling, fit, precision, batch size.
    """

    sampler: str | None = None
    model_path: str | None = None
    theta: float | None = None
    proposal: ProposalConfig = field(default_factory=ProposalConfig)
    min_span_s: float = 1.0
    refine: bool = True
    sampling: SamplingMethod = "uniform"
    window_s: float = 60.0
    reconnect_s: float = 0.0
    question: str | None = None
    engine: Engine = "transformers"
    reader: ReaderName = "auto"
    features: FeaturesConfig = field(default_factory=FeaturesConfig)

    def __post_init__(self) -> None:
        if self.sampler is None and self.model_path is None:
            raise SetupError("neither a sampler nor a video model: at least one is needed to find anything")
        if self.model_base is not None and self.model_path is None:
            raise SetupError(f"model_base={self.model_base} without model_path: the adapter is missing")
        if self.theta is not None and not 0 <= self.theta <= 1:
            raise SetupError(f"theta={self.theta:g} lies outside [0, 1]")
        least_of = {"num_frames": 1, "max_side": 16, "max_new_tokens": 1, "window_s": 0.1, "reconnect_s": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise SetupError(f"{name}={value:g} is below {least:g}")
