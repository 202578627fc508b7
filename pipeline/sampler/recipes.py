"""Which recipes compete."""

from __future__ import annotations

from typing import Any

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.config.sampler import encoder_names
from pipeline.errors import SetupError
from pipeline.features.motion import MotionEncoder

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
# A second around a click is event for certain, however short events are.
_SMALL_LOSS = {"shortcut": 0.1, "raw_steps": 20, "positive_s": 1.0}
# Heads that see a snippet by itself also try longer events, which a camera may have.
_SHORT = {"positive_s": 1.0, "negative_s": 5.0}
_LONG = {"positive_s": 4.0, "negative_s": 10.0}
_PENALTY = 0.03
# Videos with motion. With more, trees find spans better alone; of the thousands of values that a model gives, a linear
# head picks those that only suit the few scenes it knows.
_BLEND_BELOW = 40
_COMPETING = ("linear", "trees", "neighbours")  # what agrees speaks together, so that a blend brings nothing new
_FEW_NETWORKS = 2  # that compete with other heads unless asked for all: each costs as much as all of those


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try, each of a head by name.

    Where search is off, that is the configured one; where it is full, those of all heads. Otherwise they are those of
    the configured head; without one, one of each part where nothing is chosen, or all with fewer networks.

    Raises:
        SetupError: the recipe is for one of several encoders, and there is but one.
    """
    recipe = config.recipe
    if recipe.part != "all" and len(_parts(encoder)) == 1:
        raise SetupError(f"sampler.recipe.part={recipe.part}: features.encoder={encoder} is not motion beside others")
    as_network = config.model_copy(update={"recipe": recipe.model_copy(update={"head": "network"})})
    if config.search == "off":
        return [as_network.recipe if recipe.head == "auto" else recipe]
    if not heads_compete(config):
        if recipe.head == "network":
            return _networks(config, encoder, num_videos)
        return _simple(recipe, encoder, recipe.head)
    if not clicks_choose(config, num_videos):
        of_motion = {"head": "blend" if num_videos < _BLEND_BELOW else "trees"}
        return [
            one.model_copy(update=of_motion) if one.pooling == "positions" else one
            for one in _simple(recipe, encoder, "trees")
            if one.context == "video" and one.loss.positive_s == _SHORT["positive_s"]
        ]
    simple = [other for head in _COMPETING for other in _simple(recipe, encoder, head)]
    networks = _networks(as_network, encoder, num_videos)
    return [*simple, *(networks if config.search == "full" else networks[:_FEW_NETWORKS])]


def heads_compete(config: SamplerConfig) -> bool:
    """Tell whether heads of several kinds are trained."""
    return config.search == "full" or (config.search == "auto" and config.recipe.head == "auto")


def clicks_choose(config: SamplerConfig, num_videos: int) -> bool:
    """Tell whether clicks choose among recipes: those of few videos cannot, and by default there is one.

    By video labels alone they can as little, but there a network that is told that some snippets of an abnormal video
    are abnormal has more to learn from than heads that are told so of all.
    """
    is_asked_for = config.search != "auto" or config.recipe.head != "auto"
    return is_asked_for or num_videos >= config.small_below or config.recipe.supervision == "video-label"


def _networks(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return recipes of networks: with many videos the configured one.

    With few, UR-DMU is too wide and remembers places and crowds: small recipes forget the place where the features
    allow it. By clicks one learns what is near them, with and without comparing a video to its own calm moments; with
    less weight beside the demand that some snippets of an abnormal video score high; and by that demand alone, which is
    best where clicks are very few.
    """
    if num_videos >= config.small_below:
        return [config.recipe]
    supervision = config.recipe.supervision
    if supervision == "clicks":
        return [
            _small(config.recipe, encoder, "regions", "video"),
            _small(config.recipe, encoder, "regions", "none"),
            _small(config.recipe, encoder, "regions", "video", glance=0.3, mil_abnormal=1.0),
            _small(config.recipe, encoder, "video-label", "video"),
        ]
    return [_small(config.recipe, encoder, supervision, context) for context in ("video", "none")]


def _small(recipe: Recipe, encoder: str, supervision: str, context: str, **loss_weights: float) -> Recipe:
    network = recipe.network.model_dump() | _SMALL_NETWORK
    loss = recipe.loss.model_dump() | _SMALL_LOSS | loss_weights
    return recipe.model_copy(
        update={
            "supervision": supervision,
            "pooling": "positions" if _is_motion(encoder) else "none",
            "context": context,
            "standardise": True,
            "network": NetworkConfig.model_validate(network),
            "loss": LossConfig.model_validate(loss),
            "learning_rate": 1e-3,
            "weight_decay": 1e-3,
            "steps": min(recipe.steps, 100),
        }
    )


def _simple(recipe: Recipe, encoder: str, head: str) -> list[Recipe]:
    """Return recipes of a head that sees a snippet by itself.

    It learns from short and long regions around clicks, with and without comparing a video to its own calm moments,
    which shows what departs from them. Motion has units, and fast is not the same as slow; the length of what a model
    gives tells one video from another and is taken away.
    """
    by_label = recipe.supervision == "video-label"
    inputs: dict[str, Any] = {
        "head": head,
        "supervision": "video-label" if by_label else "regions",
        "standardise": True,
        "weight_decay": _PENALTY,
    }
    return [
        recipe.model_copy(
            update={
                **inputs,
                "part": part,
                "pooling": "positions" if is_motion else "none",
                "unit_length": not is_motion,
                "context": context,
                "loss": LossConfig.model_validate(recipe.loss.model_dump() | region),
            }
        )
        for part, is_motion in _parts(encoder).items()
        if recipe.part in {"all", part}
        for context in ("video", "none")
        for region in ((_LONG,) if by_label or head == "neighbours" else (_SHORT, _LONG))
    ]


def _parts(encoder: str) -> dict[str, bool]:
    """Return what a head sees by itself, and whether that is motion.

    Motion and what a model sees stay apart: of thousands of values in one vector, the few that matter are found by few
    clicks less often than by a head for each.
    """
    names = encoder_names(encoder)
    if names[0] == MotionEncoder.name and len(names) > 1:
        return {"motion": True, "vision": False}
    return {"all": _is_motion(encoder)}


def _is_motion(encoder: str) -> bool:
    return encoder_names(encoder)[0] == MotionEncoder.name
