"""The recipe of holmes-tiny, from scenes to a folder that transformers takes, at the smallest size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.model import ModelSource, VideoModel
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.tiny.recipe import Recipe, make_tiny

SMALLEST = Recipe(videos=2, vision_steps=2, vision_batch=2, language_steps=2, language_batch=2)


@pytest.mark.slow
def test_the_recipe_leaves_a_model_that_answers(tmp_path: Path) -> None:
    stages = set()
    made = make_tiny(tmp_path / "tiny", SMALLEST, threads=1, on_progress=lambda stage, *_: stages.add(stage))
    assert stages == {"scenes", "vision", "features", "language"}
    assert 3e6 < made.parameters < 5e6
    assert not (tmp_path / "tiny" / "scratch").exists()
    model = VideoModel(
        ModelSource(name=str(tmp_path / "tiny")), "cpu", load_prompt("caption").render(), Generation(max_new_tokens=4)
    )
    frames = np.zeros((8, 120, 160, 3), np.uint8)
    clip = ClipFrames(frames=frames, indices=tuple(range(8)), clip_frames=8, fps=1.0, duration_s=8.0)
    assert isinstance(model.answer([clip])[0], str)
    assert model.new_tokens

    with pytest.raises(SetupError, match="not empty"):
        make_tiny(tmp_path / "tiny", SMALLEST, threads=1, on_progress=lambda *_: None)


def test_training_sees_what_the_network_sees_in_use() -> None:
    """The features that are cached for the second stage are those that the whole network computes from pixels."""
    import torch

    from pipeline.tiny.language_stage import LessonWriter, embed
    from pipeline.tiny.model import make_model, make_processor, make_tokenizer
    from pipeline.tiny.vision_stage import scaled

    torch.manual_seed(0)
    tokenizer = make_tokenizer(["A man walks along.", "What is there?"])
    model, processor = make_model(tokenizer).eval(), make_processor(tokenizer)
    frames = np.random.default_rng(0).integers(0, 255, (8, 160, 160, 3), dtype=np.uint8)
    turns = [
        {"role": "user", "content": [{"type": "video", "video": frames}, {"type": "text", "text": "What is there?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A man walks along."}]},
    ]
    meta = {
        "total_num_frames": 8,
        "fps": 1.0,
        "duration": 8.0,
        "frames_indices": list(range(8)),
        "height": 160,
        "width": 160,
    }
    inputs = processor.apply_chat_template(
        [turns], tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs={"do_sample_frames": False, "video_metadata": [meta]},
    )  # fmt: skip
    ids, labels = LessonWriter(processor).batch([[("What is there?", "A man walks along.")]], 8)
    assert torch.equal(ids, inputs["input_ids"])
    assert tokenizer.decode(ids[labels != -100]) == "A man walks along.<|end|>"
    with torch.no_grad():
        hidden = model.model.vision_tower(pixel_values=scaled(frames), output_hidden_states=True).hidden_states[-1]
        cached = model(inputs_embeds=embed(model, ids, hidden[None]), attention_mask=torch.ones_like(ids)).logits
        assert torch.allclose(cached, model(**inputs).logits, atol=1e-4)


def test_text_alone_holds_no_video() -> None:
    from pipeline.tiny.language_stage import LessonWriter, embed
    from pipeline.tiny.model import make_model, make_processor, make_tokenizer

    tokenizer = make_tokenizer(["A man walks along.", "What is there?"])
    model = make_model(tokenizer)
    ids, labels = LessonWriter(make_processor(tokenizer)).batch([[("What is there?", "A man walks along.")]], 0)
    assert tokenizer.decode(ids[0]) == "<|user|>What is there?<|end|><|assistant|>A man walks along.<|end|>"
    assert tokenizer.decode(ids[labels != -100]) == "A man walks along.<|end|>"
    assert embed(model, ids, None).shape == (1, ids.shape[1], model.config.text_config.hidden_size)


def test_a_training_that_is_cut_off_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    import torch
    from torch import nn

    from pipeline.tiny.training import train

    torch.manual_seed(0)
    start = nn.Linear(4, 1).state_dict()

    def run(checkpoint: Path, *, cut_at: int) -> torch.Tensor:
        layer = nn.Linear(4, 1)
        layer.load_state_dict(start)

        def loss_of_step(step: int) -> torch.Tensor:
            if step == cut_at:
                raise KeyboardInterrupt
            inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            return ((layer(inputs) - inputs.sum(1, keepdim=True)) ** 2).mean()

        train(
            nn.ModuleDict({"layer": layer}), loss_of_step, steps=250, rate=0.05, stage="lines", checkpoint=checkpoint,
            on_progress=lambda *_: None,
        )  # fmt: skip
        return layer.weight.detach()

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.pt", cut_at=170)
    assert torch.equal(run(tmp_path / "cut.pt", cut_at=-1), run(tmp_path / "whole.pt", cut_at=-1))


def test_a_folder_keeps_to_the_recipe_that_it_was_begun_with(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    (out / "scratch").mkdir(parents=True)
    (out / "scratch" / "recipe.json").write_text('{"videos": 4}')
    with pytest.raises(SetupError, match=r'begun with \{"videos": 4\}, now .*"videos": 2'):
        make_tiny(out, SMALLEST, threads=1, on_progress=lambda *_: None)
