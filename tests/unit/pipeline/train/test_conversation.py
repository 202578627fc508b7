"""Labels in training: on the answer and its end alone, token by token, in every family."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from transformers import AutoConfig
from video_models import FAMILIES

from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.loading import ModelSource
from pipeline.models.hf.model import find_source
from pipeline.train.conversation import IGNORED, Lesson, TrainingProcessor

ANSWERS = ("Yes, a man falls.", "No. Nothing happens here, and nobody moves at all; the door stays shut.")


def clip(seed: int) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 2, 4, 6), clip_frames=8, fps=4.0, duration_s=2.0)


def lessons(**changes: bool) -> list[Lesson]:
    return [
        Lesson(clip=clip(n), question="Is anything abnormal?" * (n + 1), answer=answer, **changes)
        for n, answer in enumerate(ANSWERS)
    ]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_loss_is_on_answers_and_on_what_ends_them(family: str, video_model: Callable[[str], str]) -> None:
    processor = TrainingProcessor(ModelSource(name=video_model(family)))
    tokenizer = processor.processor.tokenizer
    inputs = processor.inputs(lessons())
    ids, labels, mask = inputs["input_ids"], inputs["labels"], inputs["attention_mask"]
    assert ids.shape == labels.shape == mask.shape
    visual = set(tokenizer.convert_tokens_to_ids(["<video>", "<image>", "<|video_pad|>", "<IMG_CONTEXT>"]))
    for row, answer in enumerate(ANSWERS):
        learned = labels[row] != IGNORED
        # a template may put a space before the answer
        assert (
            processor.processor.tokenizer.decode(labels[row][learned]).removeprefix(" ")
            == f"{answer}{tokenizer.eos_token}"
        )
        assert (labels[row][learned] == ids[row][learned]).all()
        assert not visual & set(labels[row][learned].tolist())
        assert mask[row][learned].all()
        # one stretch, and nothing but padding after it
        places = learned.nonzero().flatten().tolist()
        assert places == list(range(places[0], places[-1] + 1))
        assert ids[row, places[-1]] == tokenizer.eos_token_id
        assert places[-1] == int(mask[row].sum()) - 1
        assert mask[row].tolist() == sorted(mask[row].tolist(), reverse=True)


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "holmes-tiny"])
def test_token_by_token_the_answer_and_its_end_are_learned(family: str, video_model: Callable[[str], str]) -> None:
    """Each token as it prints: before the first that is learned the prompt ends, after the last comes padding alone."""
    source = find_source(family if family == "holmes-tiny" else video_model(family))
    processor = TrainingProcessor(source)
    tokenizer = processor.processor.tokenizer
    inputs = processor.inputs(lessons())
    for row, lesson in enumerate(lessons()):
        ids, labels = inputs["input_ids"][row].tolist(), inputs["labels"][row].tolist()
        learned = [place for place, label in enumerate(labels) if label != IGNORED]
        first, last = learned[0], learned[-1]
        assert learned == list(range(first, last + 1))
        assert [labels[place] for place in learned] == [ids[place] for place in learned]
        printed = [tokenizer.decode([ids[place]]) for place in learned]
        assert printed[-1] == tokenizer.convert_ids_to_tokens(ids[last])
        assert ids[last] == tokenizer.eos_token_id
        # a template may put a space before the answer
        assert "".join(printed[:-1]).lstrip() == lesson.answer
        assert [tokenizer.decode([token]) for token in ids[last + 1 :]] == [tokenizer.pad_token] * (len(ids) - last - 1)
        before = tokenizer.decode(ids[:first])
        assert before.count(lesson.question) == 1
        assert before.rstrip().lower().endswith(("assistant:", "<|assistant|>"))
        assert lesson.answer not in before
        assert inputs["attention_mask"][row].tolist() == [1] * (last + 1) + [0] * (len(ids) - last - 1)
    ends = AutoConfig.from_pretrained(source.name).get_text_config().eos_token_id
    assert tokenizer.eos_token_id in (ends if isinstance(ends, list) else [ends]), "generation ends where training did"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_prompt_is_the_one_that_inference_gives(family: str, video_model: Callable[[str], str]) -> None:
    folder = video_model(family)
    taught = lessons()
    inputs = TrainingProcessor(ModelSource(name=folder)).inputs(taught)
    for row, lesson in enumerate(taught):
        asked = ClipProcessor(ModelSource(name=folder), [{"role": "user", "content": lesson.question}]).inputs(
            [lesson.clip], "cpu"
        )
        is_prompt = inputs["attention_mask"][row].bool() & (inputs["labels"][row] == IGNORED)
        assert inputs["input_ids"][row][is_prompt].tolist() == asked["input_ids"][0].tolist()
        # a batch holds the pixels of its clips one after the other
        for name in (name for name in asked if "pixel_values" in name):
            part = len(inputs[name]) // len(taught)
            assert (inputs[name][row * part : (row + 1) * part] == asked[name]).all()


def test_what_ends_a_turn_is_learned_where_the_template_writes_it(video_model: Callable[[str], str]) -> None:
    processor = TrainingProcessor(ModelSource(name=video_model("qwen2_5_vl")))
    processor.processor.chat_template = (
        "{% for m in messages %}{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'video' %}"
        "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|endoftext|>\n"
        "{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    inputs = processor.inputs(lessons())
    for row, answer in enumerate(ANSWERS):
        labels = inputs["labels"][row]
        assert processor.processor.tokenizer.decode(labels[labels != IGNORED]) == f"{answer}<|endoftext|>"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_model_takes_the_batch_and_a_label_changes_its_loss(family: str, video_model: Callable[[str], str]) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    folder = video_model(family)
    processor = TrainingProcessor(ModelSource(name=folder))
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    with torch.no_grad():
        both = model(**processor.inputs(lessons())).loss
        one = model(
            **processor.inputs([lessons()[0], Lesson(clip=clip(1), question="?", answer="!", counts=False)])
        ).loss
    assert torch.isfinite(both)
    assert torch.isfinite(one)
    assert not torch.allclose(both, one)


def test_what_does_not_count_has_no_label(video_model: Callable[[str], str]) -> None:
    inputs = TrainingProcessor(ModelSource(name=video_model("llava_onevision"))).inputs(lessons(counts=False))
    assert (inputs["labels"] == IGNORED).all()


def test_a_template_that_hides_the_prompt_is_refused(video_model: Callable[[str], str]) -> None:
    processor = TrainingProcessor(ModelSource(name=video_model("llava_onevision"), setting="lora.base"))
    processor.processor.chat_template = (
        "{% for m in messages|reverse %}{% for c in m['content'] %}{% if c['type'] == 'video' %}<video>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(SetupError, match=r"lora\.base=.*does not continue a prompt"):
        processor.inputs(lessons())
