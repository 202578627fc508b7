"""Which recipes compete where training videos are few."""

from __future__ import annotations

from pipeline.config import LossConfig, NetworkConfig, Recipe, SamplerConfig
from pipeline.features.motion import MotionEncoder

_SMALL_NETWORK = {"hidden_dim": 32, "heads": 2, "head_dim": 16, "layers": 1, "memory_slots": 8, "shortcut": True}


def candidate_recipes(config: SamplerConfig, encoder: str, num_videos: int) -> list[Recipe]:
    """Return the recipes to try, the preferred ones first: of two that do equally well the earlier one is taken.

    With many videos, or where search is off, that is the configured one. With few, UR-DMU is too wide and remembers
    places and crowds: small recipes vary supervision, pooling over positions, and context, one at a time.
    """
    if config.search == "off" or num_videos >= config.small_below:
        return [config.recipe]
    # By clicks one learns with or without the certainty that lies far from them; both ways are tried.
    supervisions = ["regions", "clicks"] if config.recipe.supervision == "clicks" else [config.recipe.supervision]
    poolings = ["positions", "none"] if encoder == MotionEncoder.name else ["none"]
    tried = dict.fromkeys(
        [
            (supervisions[0], poolings[0], "video"),
            (supervisions[0], poolings[0], "none"),
            (supervisions[-1], poolings[0], "video"),
            (supervisions[0], poolings[-1], "video"),
        ]
    )
    return [
        config.recipe.model_copy(
            update={
                "supervision": supervision,
                "pooling": pooling,
                "context": context,
                "standardise": True,
                "network": NetworkConfig.model_validate(config.recipe.network.model_dump() | _SMALL_NETWORK),
                "loss": LossConfig.model_validate(config.recipe.loss.model_dump() | {"shortcut": 0.1, "raw_steps": 20}),
                "learning_rate": 1e-3,
                "weight_decay": 1e-3,
                "steps": min(config.recipe.steps, 100),
            }
        )
        for supervision, pooling, context in tried
    ]
