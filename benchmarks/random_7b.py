"""Video MLLMs of 7B size with random weights, made on the device itself: for throughput, where no weights are at hand.

Configurations are those of LanguageBind/Video-LLaVA-7B-hf and Qwen/Qwen2.5-VL-7B-Instruct; the tokenizer alone is a
small one, so that nothing has to be downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from video_models import chat_template, train_tokenizer

from pipeline.models.hf.torchvision_mend import mend_torchvision

_QWEN_TOKENS = ("<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def save_processor(family: str, folder: Path) -> Any:
    """Save processor and configuration of a family, without weights, and return the configuration."""
    mend_torchvision()
    config, processor = {"video_llava": _video_llava, "qwen2_5_vl": _qwen2_5_vl}[family]()
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return config


def random_weights(config: Any, device: str, dtype: Any) -> Any:
    """Return the model of a configuration with random weights."""
    import torch
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()


def _video_llava() -> tuple[Any, Any]:
    import transformers as t

    words = train_tokenizer(("<pad>", "</s>", "<image>", "<video>"), image_token="<image>", video_token="<video>")
    config = t.VideoLlavaConfig(
        text_config=t.LlamaConfig(vocab_size=32_064, max_position_embeddings=4096, pad_token_id=0, eos_token_id=1),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
    )
    processor = t.VideoLlavaProcessor(
        image_processor=t.VideoLlavaImageProcessor(),
        video_processor=t.VideoLlavaVideoProcessor(),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=chat_template("<video>"),
    )
    return config, processor


def _qwen2_5_vl() -> tuple[Any, Any]:
    import transformers as t

    words = train_tokenizer(_QWEN_TOKENS, image_token="<|image_pad|>", video_token="<|video_pad|>")
    start, end, image, video = words.convert_tokens_to_ids(list(_QWEN_TOKENS[2:]))
    config = t.Qwen2_5_VLConfig(
        vision_config={
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
            "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
        },
        text_config={
            "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
            "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
        },
        vision_start_token_id=start, vision_end_token_id=end, image_token_id=image, video_token_id=video,
    )  # fmt: skip
    processor = t.Qwen2_5_VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(),
        video_processor=t.Qwen2VLVideoProcessor(cap_pixels_per_frame=True),
        tokenizer=words,
        chat_template=chat_template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    return config, processor
