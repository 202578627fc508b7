"""An adapter with random updates and a random projector: it changes what its base says."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_random_adapter(base: str, folder: Path) -> Any:
    """Write an adapter of a base into an empty folder, and return the model with it, not merged."""
    import torch

    from pipeline.config import LoraConfig
    from pipeline.models.hf.adapter import AdapterFacts
    from pipeline.models.hf.model import ModelSource, load_weights
    from pipeline.models.hf.model_parts import probe_weights
    from pipeline.train.adapter import insert_lora, save_adapter
    from pipeline.train.conversation import TrainingProcessor

    model, _, _ = load_weights(ModelSource(name=base), "cpu")
    facts = AdapterFacts(
        base=base, architecture=type(model).__name__, probe=probe_weights(model), has_projector=True, num_frames=4
    )
    adapted = insert_lora(model, LoraConfig(rank=2, alpha=4))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    save_adapter(adapted, TrainingProcessor(ModelSource(name=base)).processor, facts, folder)
    return adapted.eval()
