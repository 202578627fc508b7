"""Which recipes compete where training videos are few."""

from __future__ import annotations

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.features.motion import MotionEncoder

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}
_NEAR_S = (1.0, 4.0)  # how far around a click its event is held to reach: the shortest of events, and long ones


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try, the preferred ones first: of two that do equally well the earlier one is taken.

    With many videos, or where search is off, that is the configured one. With few, UR-DMU is too wide and remembers
    places and crowds: small recipes vary supervision, pooling over positions, and context, one at a time.
    """
    if config.search == "off" or num_videos >= config.small_below:
        return [config.recipe]
    poolings = ["positions", "none"] if encoder == MotionEncoder.name else ["none"]
    near_s, wide_s = _NEAR_S
    if config.recipe.supervision == "clicks":
        # By clicks one learns with or without the certainty that lies far from them, and events differ in length.
        tried = [
            ("regions", poolings[0], "video", near_s),
            ("regions", poolings[0], "none", near_s),
            ("regions", poolings[0], "video", wide_s),
            ("clicks", poolings[0], "video", near_s),
        ]
    else:
        tried = [
            (config.recipe.supervision, poolings[0], "video", near_s),
            (config.recipe.supervision, poolings[0], "none", near_s),
            (config.recipe.supervision, poolings[-1], "video", near_s),
        ]
    return [
        config.recipe.model_copy(
            update={
                "supervision": supervision,
                "pooling": pooling,
                "context": context,
                "standardise": True,
                "network": NetworkConfig.model_validate(config.recipe.network.model_dump() | _SMALL_NETWORK),
                "loss": LossConfig.model_validate(
                    config.recipe.loss.model_dump() | {"shortcut": 0.1, "raw_steps": 20, "positive_s": positive_s}
                ),
                "learning_rate": 1e-3,
                "weight_decay": 1e-3,
                "steps": min(config.recipe.steps, 100),
            }
        )
        for supervision, pooling, context, positive_s in dict.fromkeys(tried)
    ]
