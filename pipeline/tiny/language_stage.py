"""The second stage: projector and language model learn to put into words what the tower sees.

The tower is fixed by then, so that every clip passes it once; what it says is kept on disk. The network itself is
transformers' own: it is only handed the visual features instead of the pixels.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stages.run import Progress
from pipeline.tiny.lessons import Turn, teach, teach_words
from pipeline.tiny.scenes import NUM_FRAMES
from pipeline.tiny.vision_stage import cosine, scaled
from pipeline.tiny.world import Scenes

logger = logging.getLogger(__name__)

_RATE = 2e-3
_WEIGHT_DECAY = 0.05
_IGNORED = -100
_PROMPTED = 0.25
_WORDS = 0.15  # of the steps are text alone


@torch.inference_mode()
def see_all(model: Any, scenes: Scenes, path: Path, on_progress: Progress) -> NDArray[np.float16]:
    """Write what the tower makes of every frame to a file, float16 (clips, NUM_FRAMES, patches, width), and map it."""
    tower, clips = model.model.vision_tower, len(scenes.frames)
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    seen: NDArray[np.float16] = open_memmap(  # type: ignore[no-untyped-call]
        path, "w+", np.float16, (clips, NUM_FRAMES, patches, tower.config.hidden_size)
    )
    for begin in range(0, clips, 8):
        frames = np.array(scenes.frames[begin : begin + 8])
        with torch.autocast("cpu", torch.bfloat16):
            hidden = tower(pixel_values=scaled(frames.reshape(-1, *frames.shape[2:])), output_hidden_states=True)
        seen[begin : begin + 8] = hidden.hidden_states[-1].float().reshape(len(frames), NUM_FRAMES, patches, -1).numpy()
        if begin % 800 == 0:
            on_progress("features", begin, clips)
    return seen


def train_language(
    model: Any, processor: Any, scenes: Scenes, seen: NDArray[np.float16], *, steps: int, batch: int, seed: int,
    on_progress: Progress,
) -> float:  # fmt: skip
    """Train projector and language model on conversations about the clips, and return the last mean loss."""
    model.model.vision_tower.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine(step, steps, warmup=steps // 20))
    numbers, rng = np.random.default_rng(seed), Random(f"{seed}:lessons")
    turns_of = LessonWriter(processor)
    model.train()
    order: list[int] = []
    recent = math.nan
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = numbers.permutation(len(seen)).tolist()
        chosen, order = order[:batch], order[batch:]
        features = None
        if rng.random() < _WORDS:
            ids, labels, mask = turns_of.batch([teach_words(scenes.clips[clip]["caption"], rng) for clip in chosen], 0)
        else:
            # all of a batch or none: the long prompt would pad the others
            prompted = rng.random() < _PROMPTED
            lessons = [teach(scenes.clips[clip], scenes.marks[clip], rng, prompted=prompted) for clip in chosen]
            ids, labels, mask = turns_of.batch(lessons, NUM_FRAMES)
            features = torch.from_numpy(seen[chosen].astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            embeds = embed(model, ids, features)
            output = model(inputs_embeds=embeds, attention_mask=mask, labels=labels)
        optimiser.zero_grad()
        output.loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        recent = output.loss.item() if math.isnan(recent) else 0.98 * recent + 0.02 * output.loss.item()
        if step % 100 == 0 or step == steps:
            logger.info("language: step %d of %d, loss %.3f", step, steps, recent)
            on_progress("language", step, steps)
    model.model.vision_tower.requires_grad_(True)
    model.eval()
    return recent


def embed(model: Any, ids: Tensor, features: Tensor | None) -> Tensor:
    """Return the embeddings of a batch, visual ones in the places of the video tokens: what the network does itself."""
    inner = model.model
    if features is None:
        words: Tensor = inner.get_input_embeddings()(ids)
        return words
    clips, frames, patches, width = features.shape
    projected = inner.multi_modal_projector(features.reshape(clips * frames, patches, width))
    pooled = inner.apply_pooling(projected).reshape(clips, -1, projected.shape[-1])
    newline = inner.image_newline.expand(clips, 1, -1).to(pooled.dtype)
    visual = torch.cat([pooled, newline], dim=1)
    embeds: Tensor = inner.get_input_embeddings()(ids).to(visual.dtype)
    is_video = (ids == model.config.video_token_id)[..., None].expand_as(embeds)
    return embeds.masked_scatter(is_video, visual.reshape(-1))


class LessonWriter:
    """Turns conversations into tokens, with the loss on the answers alone."""

    def __init__(self, processor: Any) -> None:
        self._tokenizer = processor.tokenizer
        self._tokens = math.ceil(math.sqrt(processor.num_image_tokens) / 2) ** 2

    def batch(self, lessons: list[list[Turn]], frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, labels and attention mask, padded on the right; with no frames it is text alone."""
        visual = "<video>" * (self._tokens * frames + 1) if frames else ""
        rows = [self._row(turns, visual) for turns in lessons]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id)
        labels = torch.full((len(rows), longest), _IGNORED)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, (own, said) in enumerate(rows):
            ids[number, : len(own)], labels[number, : len(said)] = torch.tensor(own), torch.tensor(said)
            mask[number, : len(own)] = 1
        return ids, labels, mask

    def _row(self, turns: list[Turn], visual: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        for number, (question, answer) in enumerate(turns):
            asked = self._tokenizer.encode(f"<|user|>{'' if number else visual}{question}<|end|><|assistant|>")
            said = self._tokenizer.encode(f"{answer}<|end|>")
            ids += asked + said
            labels += [_IGNORED] * len(asked) + said
        return ids, labels
