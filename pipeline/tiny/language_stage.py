"""The second stage: projector and language model learn to put into words what the tower sees.

The tower is fixed by then, so that every clip passes it once; what it says is kept on disk. The network itself is
transformers' own: it is only handed the visual features instead of the pixels.
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from pipeline.stages.run import Progress
from pipeline.tiny.lessons import Turn, teach, teach_words
from pipeline.tiny.scenes import NUM_FRAMES
from pipeline.tiny.training import train
from pipeline.tiny.vision_stage import scaled
from pipeline.tiny.world import Scenes

_RATE = 2e-3
_IGNORED = -100
_PROMPTED = 0.25
_FEWER = 0.5  # of the steps show every other frame: who asks the model may show eight
_WORDS = 0.15  # of the steps are text alone


@torch.inference_mode()
def see_all(model: Any, scenes: Scenes, path: Path, on_progress: Progress) -> NDArray[np.float16]:
    """Write what the tower makes of every frame to a file, float16 (clips, NUM_FRAMES, patches, width), and map it.

    A file that an earlier run has finished is taken as it is.
    """
    if path.is_file():
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
    tower, clips = model.model.vision_tower, len(scenes.frames)
    partial = path.with_suffix(".part")
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    seen: np.memmap[Any, np.dtype[np.float16]] = open_memmap(  # type: ignore[no-untyped-call]
        partial, "w+", np.float16, (clips, NUM_FRAMES, patches, tower.config.hidden_size)
    )
    for begin in range(0, clips, 8):
        frames = np.array(scenes.frames[begin : begin + 8])
        pixels = scaled(frames.reshape(-1, *frames.shape[2:])).to(tower.device)
        with torch.autocast(tower.device.type, torch.bfloat16):
            hidden = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1].float().cpu()
        seen[begin : begin + 8] = hidden.reshape(len(frames), NUM_FRAMES, patches, -1).numpy()
        if begin % 800 == 0:
            on_progress("features", begin, clips)
    seen.flush()
    partial.replace(path)
    return seen


def train_language(
    model: Any, processor: Any, scenes: Scenes, seen: NDArray[np.float16], *, steps: int, batch: int, seed: int,
    checkpoint: Path, on_progress: Progress,
) -> float:  # fmt: skip
    """Train projector and language model on conversations about the clips, and return the last mean loss."""
    turns_of = LessonWriter(processor)
    device = model.device

    def loss_of_step(step: int) -> Tensor:
        rng = Random(f"{seed}:lessons:{step}")
        chosen = _chosen(len(seen), step, batch, seed)
        features = None
        if rng.random() < _WORDS:
            texts = turns_of.batch([teach_words(scenes.clips[clip], rng) for clip in chosen], 0)
        else:
            # all of a batch or none: the long prompt would pad the others
            prompted = rng.random() < _PROMPTED
            lessons = [teach(scenes.clips[clip], scenes.marks[clip], rng, prompted=prompted) for clip in chosen]
            every = 2 if rng.random() < _FEWER else 1
            features = torch.from_numpy(seen[chosen, ::every].astype(np.float32)).to(device)
            texts = turns_of.batch(lessons, features.shape[1])
        ids, labels = (part.to(device) for part in texts)
        wanted = labels[:, 1:] != _IGNORED
        with torch.autocast(device.type, torch.bfloat16):
            embeds = embed(model, ids, features)
            # padding is on the right, where a causal model needs no mask; words are scored where answers stand alone
            hidden = model.model.language_model(inputs_embeds=embeds).last_hidden_state[:, :-1]
            said = model.lm_head(hidden[wanted])
        return cross_entropy(said.float(), labels[:, 1:][wanted])

    model.model.vision_tower.requires_grad_(False)
    model.train()
    model.model.vision_tower.eval()
    loss = train(
        nn.ModuleDict({"model": model}), loss_of_step, steps=steps, rate=_RATE, stage="language",
        checkpoint=checkpoint, on_progress=on_progress,
    )  # fmt: skip
    model.model.vision_tower.requires_grad_(True)
    model.eval()
    return loss


def _chosen(clips: int, step: int, batch: int, seed: int) -> list[int]:
    """Return the clips of a step: all in an order of chance, then all in another, never two orders in one batch."""
    of_epoch = max(1, clips // batch)
    order = np.random.default_rng((seed, step // of_epoch)).permutation(clips)
    begin = step % of_epoch * batch
    chosen: list[int] = order[begin : begin + batch].tolist()
    return chosen


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

    def batch(self, lessons: list[list[Turn]], frames: int) -> tuple[Tensor, Tensor]:
        """Return ids and labels, padded on the right; with no frames it is text alone."""
        visual = "<video>" * (self._tokens * frames + 1) if frames else ""
        rows = [self._row(turns, visual) for turns in lessons]
        ids, labels = (
            pad_sequence([torch.tensor(row[kind]) for row in rows], batch_first=True, padding_value=filler)
            for kind, filler in ((0, self._tokenizer.pad_token_id), (1, _IGNORED))
        )
        return ids, labels

    def _row(self, turns: list[Turn], visual: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        for number, (question, answer) in enumerate(turns):
            asked = self._tokenizer.encode(f"<|user|>{'' if number else visual}{question}<|end|><|assistant|>")
            said = self._tokenizer.encode(f"{answer}<|end|>")
            ids += asked + said
            labels += [_IGNORED] * len(asked) + said
        return ids, labels
