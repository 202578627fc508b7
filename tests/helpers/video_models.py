"""Video MLLMs with random weights: six families at a size that a test builds, saves and runs in milliseconds.

`save_video_model(family, folder)` leaves a folder that `from_pretrained` takes: weights, processor, and a byte-level
BPE tokenizer trained on a few sentences. The weights are the same in every call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.models.hf.torchvision_mend import mend_torchvision

_SIDE, _PATCH = 32, 8
_SENTENCES = ("A thing moves from left to right.", "Describe what can be seen.")
_TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
_QWEN = ("<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def save_video_model(family: str, folder: Path) -> Path:
    """Save the model of a family of `FAMILIES` with its processor, and return the folder."""
    mend_torchvision()
    import torch

    # A seed of its own: building a model must not change what its caller draws next.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, processor = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                # At the usual scale what such a small model says would hardly depend on what it is shown.
                parameter.mul_(12)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def train_tokenizer(specials: tuple[str, ...], **named: str) -> Any:
    """Return a byte-level BPE tokenizer; `specials` begin with the padding and the end of a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=specials[0], eos_token=specials[1], extra_special_tokens=named
    )


def chat_template(video: str) -> str:
    """Return a template that writes "role: ..." lines, with `video` where a video stands."""
    return (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'video' %}"
        + video
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant: "
        "{% endif %}"
    )


def _video_llava() -> tuple[Any, Any]:
    import transformers as t

    words = train_tokenizer(("<pad>", "</s>", "<image>", "<video>"), image_token="<image>", video_token="<video>")
    config = t.VideoLlavaConfig(
        vision_config=t.CLIPVisionConfig(**_TOWER, image_size=_SIDE, patch_size=_PATCH),
        text_config=t.LlamaConfig(**_TEXT, vocab_size=len(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
    )
    size = {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}}
    processor = t.VideoLlavaProcessor(
        image_processor=t.VideoLlavaImageProcessor(**size),
        video_processor=t.VideoLlavaVideoProcessor(**size),
        tokenizer=words,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=chat_template("<video>"),
    )
    return t.VideoLlavaForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    import transformers as t

    words = train_tokenizer(("<pad>", "<eos>", "<image>", "<video>"), image_token="<image>", video_token="<video>")
    config = t.LlavaOnevisionConfig(
        vision_config=t.SiglipVisionConfig(**_TOWER, image_size=_SIDE, patch_size=_PATCH, vision_use_head=False),
        text_config=t.Qwen2Config(**_TEXT, vocab_size=len(words)),
        image_grid_pinpoints=[[_SIDE, _SIDE]],
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
    )
    size = {"height": _SIDE, "width": _SIDE}
    processor = t.LlavaOnevisionProcessor(
        image_processor=t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[_SIDE, _SIDE]]),
        video_processor=t.LlavaOnevisionVideoProcessor(size=size),
        tokenizer=words,
        num_image_tokens=(_SIDE // _PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=chat_template("<video>"),
    )
    return t.LlavaOnevisionForConditionalGeneration(config), processor


def _qwen_words() -> tuple[Any, dict[str, Any]]:
    words = train_tokenizer(_QWEN, image_token="<|image_pad|>", video_token="<|video_pad|>")
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return words, dict(zip(names, words.convert_tokens_to_ids(list(_QWEN[2:])), strict=True))


def _qwen2_5_vl() -> tuple[Any, Any]:
    import transformers as t

    words, ids = _qwen_words()
    config = t.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
            "window_size": 56, "fullatt_block_indexes": [1],
        },
        text_config={**_TEXT, "vocab_size": len(words), "rope_parameters": _ROPE},
        **ids,
    )  # fmt: skip
    size = {"shortest_edge": 28 * 28 * 4, "longest_edge": 56 * 56 * 8}
    processor = t.Qwen2_5_VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(size=size),
        video_processor=t.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        tokenizer=words,
        chat_template=chat_template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    return t.Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl() -> tuple[Any, Any]:
    import transformers as t

    words, ids = _qwen_words()
    config = t.Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        text_config={**_TEXT, "head_dim": 16, "vocab_size": len(words), "rope_parameters": _ROPE},
        **ids,
    )  # fmt: skip
    size = {"shortest_edge": 32 * 32 * 2, "longest_edge": 64 * 64 * 4}
    processor = t.Qwen3VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(size=size, patch_size=16),
        video_processor=t.Qwen3VLVideoProcessor(size=size),
        tokenizer=words,
        chat_template=chat_template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    return t.Qwen3VLForConditionalGeneration(config), processor


def _internvl() -> tuple[Any, Any]:
    import transformers as t

    specials = ("<pad>", "<eos>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    words = train_tokenizer(specials, **dict(zip(names, specials[2:], strict=True)))
    tokens_per_frame = (_SIDE // _PATCH // 2) ** 2
    config = t.InternVLConfig(
        vision_config={**_TOWER, "image_size": [_SIDE, _SIDE], "patch_size": [_PATCH, _PATCH]},
        text_config=t.Qwen2Config(**_TEXT, vocab_size=len(words)),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=tokens_per_frame,
    )
    size = {"height": _SIDE, "width": _SIDE}
    processor = t.InternVLProcessor(
        image_processor=t.GotOcr2ImageProcessor(size=size),
        video_processor=t.InternVLVideoProcessor(size=size),
        tokenizer=words,
        image_seq_length=tokens_per_frame,
        chat_template=chat_template("<video>"),
    )
    return t.InternVLForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    import transformers as t

    words = train_tokenizer(
        ("<pad>", "<end_of_utterance>", "<image>", "<video>", "<fake_token_around_image>", "<global-img>"),
        image_token="<image>",
        video_token="<video>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    config = t.SmolVLMConfig(
        vision_config={**_TOWER, "image_size": _SIDE, "patch_size": _PATCH},
        text_config=t.LlamaConfig(**_TEXT, vocab_size=len(words)).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    sides = {"size": {"longest_edge": _SIDE}, "max_image_size": {"longest_edge": _SIDE}}
    processor = t.SmolVLMProcessor(
        image_processor=t.SmolVLMImageProcessor(**sides),
        video_processor=t.SmolVLMVideoProcessor(**sides),
        tokenizer=words,
        image_seq_len=(_SIDE // _PATCH // 2) ** 2,
        chat_template=chat_template("<video>"),
    )
    processor.video_processor.num_frames, processor.video_processor.fps = 64, 1
    return t.SmolVLMForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "video_llava": _video_llava,
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
}
"""Builders of model and processor by family."""
