"""Settings of the features and of the temporal sampler that is trained on them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Fraction, Seconds, Section, added, operational

_AND = " + "  # between the names of several encoders
Combine = Literal["refuse", "concatenate"]


def encoder_names(encoder: str) -> list[str]:
    """Return the names of the encoders that `features.encoder` holds, motion first where it is one of them."""
    return encoder.split(_AND)


class FeaturesConfig(Section):
    """What the sampler sees of a video."""

    encoder: str = Field(
        "motion",
        description="motion: measured, no model; efficientnet-lite0, -lite1, -lite2: from holmes-engine[vision], no "
        "download; npy: others' features from files; package:name: an encoder of another package; else a vision "
        "model's id or folder; several, such as [motion, efficientnet-lite0], are put side by side",
    )
    stride_frames: int = Field(16, ge=1, le=4096, description="frames per snippet; use 8 for 10 fps video")
    options: dict[str, Any] = Field({}, description="package:name: settings of that encoder")
    folders: list[str] = Field(
        [], description="npy: folders of .npy or .txt files named <video> or <video>__<crop>, however deep"
    )
    rows: Literal["snippets", "segments"] = Field(
        "snippets",
        description="npy: what rows of a file are: snippets of stride_frames each; or equal parts of the video, "
        "however many, such as the 32 segments of UCF-Crime's C3D features",
    )
    combine: Combine = Field(
        "refuse",
        description="npy: what features of one name in several folders are: an error, or parts to concatenate in the "
        "order of the folders, such as RGB and flow",
    )
    revision: str | None = Field(None, description="vision model: its revision")
    pooling: Literal["class", "mean", "max"] = Field(
        "class",
        description="vision model: class token, for efficientnet-lite max; mean of the patches; largest value of each "
        "feature over the patches",
    )
    fit: Literal["model", "aspect", "letterbox", "stretch", "tiles", "crop"] = Field(
        "model",
        description="vision model: how the picture meets its square: as its own processor has it, aspect for "
        "efficientnet-lite; whole in its own shape, for convolutional models; whole with margins; whole and stretched; "
        "squares side by side, pooled together; its middle",
    )
    batch_size: int = operational(32, ge=1, description="vision model: frames per batch")
    device: str = operational("auto", description="vision model: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="vision model: auto is bfloat16 on GPU"
    )

    @field_validator("encoder", mode="before")
    @classmethod
    def _join(cls, value: object) -> object:
        given: list[Any] = value if isinstance(value, list) else [value]
        if not given or not all(isinstance(name, str) and name for name in given):
            return value
        names = [name for several in given for name in encoder_names(several)]
        # Motion first, where the sampler looks for it.
        ordered = sorted(dict.fromkeys(names), key=lambda name: name != "motion")
        if len(ordered) > 1 and "npy" in ordered:
            raise ValueError("npy cannot be combined; use features.combine to put folders side by side")
        return _AND.join(ordered)

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders whose features are put side by side, one as a rule."""
        return encoder_names(self.encoder)

    def seen(self) -> dict[str, Any]:
        """Return the settings that decide how a video is seen, up to rounding."""
        every = self.identity()
        return {name: every[name] for name in ("encoder", "stride_frames", "options", "revision", "pooling", "fit")}

    @model_validator(mode="after")
    def _rows(self) -> FeaturesConfig:
        if self.rows == "segments" and self.encoder != "npy":
            raise ValueError(f"rows=segments is for encoder=npy, not for {self.encoder}")
        return self

    @property
    def snippet_frames(self) -> int:
        """Frames of a snippet; 0 where snippets are equal parts of their video."""
        return 0 if self.rows == "segments" else self.stride_frames


class NetworkConfig(Section):
    """The size of the network; the defaults are UR-DMU's."""

    hidden_dim: int = Field(512, ge=8, description="width of the network")
    heads: int = Field(4, ge=1, description="attention heads")
    head_dim: int = Field(128, ge=1, description="width of an attention head")
    layers: int = Field(2, ge=0, description="transformer layers")
    memory_slots: int = Field(60, ge=1, description="slots of each of the two memories")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout in the transformer layers")
    shortcut: bool = Field(False, description="add a linear classifier of the input to the network's logit")


class LossConfig(Section):
    """Weights of the loss terms and the parameters of the targets; the defaults are GlanceVAD's."""

    glance: float = Field(1.0, ge=0, description="cross entropy with the targets made from the clicks")
    mil_abnormal: float = Field(0.0, ge=0, description="top-k loss of abnormal videos; use 1 if there are no clicks")
    mil_normal: float = Field(1.0, ge=0, description="top-k loss of normal videos")
    memory: float = Field(0.1, ge=0, description="attention on the two memories")
    triplet: float = Field(0.1, ge=0, description="margin between normal and abnormal features")
    kl: float = Field(0.001, ge=0, description="normal memory's latent against the unit Gaussian")
    distance: float = Field(0.0001, ge=0, description="margin between the lengths of the latents")
    shortcut: float = Field(0.0, ge=0, description="squared weights of the shortcut")
    alpha: Fraction = Field(0.9, description="clicks: share of a click's score down to which its event is mined")
    sigma: float = Field(0.1, gt=0, description="clicks: width of the Gaussians, the video's length being 2")
    raw_steps: int = Field(50, ge=0, description="clicks: initial steps, trained on the raw clicks")
    positive_s: Seconds = Field(4.0, description="regions: this many seconds around a click are abnormal")
    negative_s: Seconds = Field(10.0, description="regions: beyond this many seconds from every click counts as normal")
    negative_weight: Fraction = Field(0.3, description="regions: weight of what counts as normal in abnormal videos")

    @model_validator(mode="after")
    def _regions(self) -> LossConfig:
        if self.positive_s > self.negative_s:
            raise ValueError(f"positive_s={self.positive_s} exceeds negative_s={self.negative_s}")
        return self


class Recipe(Section):
    """Everything that decides one network; the defaults are GlanceVAD's on UCF-Crime."""

    head: Literal["auto", "network", "linear", "trees", "blend", "neighbours"] = added(
        "auto",
        description="auto: as sampler.search says, with off network; network: UR-DMU; linear: logistic regression; "
        "trees: extremely randomised; blend: trees and a tenth of linear; neighbours: distance to normal snippets; the "
        "last four take regions around clicks, or video-label",
    )
    supervision: Literal["clicks", "video-label", "regions"] = Field(
        "clicks",
        description="clicks: mined and rendered; video-label: no clicks; regions: near clicks, far from them, unknown",
    )
    pooling: Literal["none", "positions"] = Field(
        "none", description="positions: ignore where in the picture things move; motion features only"
    )
    part: Literal["all", "motion", "vision"] = added(
        "all", description="of several encoders, which are seen: motion, what stands beside it, or all in one vector"
    )
    context: Literal["none", "video"] = Field(
        "none", description="video: add how each feature differs from the video's own calm quarter"
    )
    unit_length: bool = added(False, description="scale every snippet's features to length 1 first")
    standardise: bool = Field(False, description="take signed roots and scale features by the training videos")
    network: NetworkConfig = Field(NetworkConfig(), description="size of the network")
    loss: LossConfig = Field(LossConfig(), description="loss terms")
    segments: int = Field(200, ge=2, description="longest training sequence; longer videos are averaged down to it")
    batch_videos: int = Field(64, ge=1, description="normal videos per step, and as many abnormal ones")
    crops: int = Field(0, ge=0, description="random crops of a video per step; 0: all")
    most_rows: int = added(
        0, ge=0, description="other heads than network: at most so many snippets, drawn at random, fit it; 0: all"
    )
    steps: int = Field(1500, ge=1, description="maximum number of training steps")
    learning_rate: float = Field(1e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(5e-5, ge=0, description="weight decay of Adam; linear: penalty on squared weights")

    @property
    def is_network(self) -> bool:
        """Whether a network is trained by it, as by any that names no head."""
        return self.head in {"auto", "network"}


class SamplerConfig(Section):
    """How the temporal sampler is trained, chosen and applied."""

    weights: str | None = Field(None, description="folder of a trained sampler; null: train one on this workspace")
    search: Literal["auto", "full", "off"] = Field(
        "auto",
        description="auto: with few videos trees, with fewer than 40 a blend for motion; with more, or of one "
        "`recipe.head`, recipes compete by cross-validation over videos; full: those of every head compete; off: use "
        "`recipe`",
    )
    small_below: int = Field(
        100,
        ge=0,
        description="number of training videos below which nothing is chosen, and networks that compete are small",
    )
    recipe: Recipe = Field(Recipe(), description="the head and its training")
    folds: int = Field(
        0,
        ge=0,
        le=50,
        description="parts of the videos, each of which validates what was trained on the others; 0: 8 with up to 100 "
        "videos, fewer with more; 1 where many videos train a network alone",
    )
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the videos used to validate a single network"
    )
    evaluate_every: int = Field(50, ge=1, description="steps between validations; fewer if training is short")
    smoothing_s: list[Annotated[float, Field(ge=0, le=60)]] = Field(
        [1.0, 2.0, 4.0, 8.0],
        min_length=1,
        description="widths of score smoothing to choose from by validation, in seconds",
    )
    seed: int = Field(0, ge=0, description="seed of weights, batches, dropout and folds")
    device: str = operational("auto", description="auto, cpu, cuda, cuda:1, ...")
    snippets_at_once: int = Field(
        0,
        ge=0,
        description="snippets, over all crops, that a step processes at once, at least a pair of videos; less memory, "
        "same gradient as the whole step; 0: 4096 on CPU, 65536 on GPU",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto is bfloat16 on GPU")
    cpu_minutes: float = Field(
        5.0,
        ge=0,
        description="on CPU: what all training steps may cost, in minutes of two cores, counted by sizes, not by the "
        "clock; larger recipes get smaller batches, a narrower network, fewer steps or rows; 0: trained as configured",
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the sampler."""
        return super().identity() | {"recipe": self.recipe.identity()}
