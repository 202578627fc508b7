"""The network, tokenizer and processor of `holmes-tiny`: the architecture of LLaVA-OneVision, very small.

The tower is LeViT's first stage (Graham et al., arXiv 2104.01136): four convolutions before the attention. From
nothing, on a hundred thousand frames, it learns poses that a tower of cut-out patches (SigLIP's) does not come to see.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.tiny.scenes import SIDE

PATCH = 16
VOCABULARY = 1536
_VISION_WIDTH = 256
_VISION = {
    # `depths` counts the stages; LeViT wants a second size all the same, and no step down after the last stage
    "hidden_sizes": [_VISION_WIDTH] * 2, "depths": [2], "key_dim": [32], "num_attention_heads": [8],
    "attention_ratio": [1], "mlp_ratio": [2], "down_ops": [[""]],
    "image_size": SIDE, "patch_size": PATCH, "hidden_size": _VISION_WIDTH,
}  # fmt: skip
_TEXT = {
    "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
_PAD, _END, _USER, _ASSISTANT, _SYSTEM, _IMAGE, _VIDEO = _SPECIALS = (
    "<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<image>", "<video>",
)  # fmt: skip
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>{% elif part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(corpus: Iterable[str]) -> Any:
    """Return a byte-level BPE tokenizer of `VOCABULARY` tokens, trained on the texts of `corpus`."""
    mend_torchvision()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(_SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=_PAD,
        eos_token=_END,
        model_max_length=_TEXT["max_position_embeddings"],
        extra_special_tokens={"image_token": _IMAGE, "video_token": _VIDEO},
    )


def make_processor(tokenizer: Any) -> Any:
    """Return the processor: frames squeezed to a square of `SIDE` pixels, scaled to [-1, 1]."""
    import transformers as t

    size = {"height": SIDE, "width": SIDE}
    scale = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return t.LlavaOnevisionProcessor(
        image_processor=t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[SIDE, SIDE]], **scale),
        video_processor=t.LlavaOnevisionVideoProcessor(size=size, **scale),
        tokenizer=tokenizer,
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=_CHAT_TEMPLATE,
    )


def make_model(tokenizer: Any) -> Any:
    """Return the untrained network."""
    import transformers as t

    ids = tokenizer.convert_tokens_to_ids([_IMAGE, _VIDEO])
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = t.LlavaOnevisionConfig(
        vision_config=t.LevitConfig(**_VISION),
        text_config=t.Qwen2Config(**_TEXT, vocab_size=len(tokenizer), **ends),
        image_token_index=ids[0],
        video_token_index=ids[1],
        image_grid_pinpoints=[[SIDE, SIDE]],
        tie_word_embeddings=True,
        **ends,
    )
    model = t.LlavaOnevisionForConditionalGeneration(config)
    model.generation_config = t.GenerationConfig(**ends, do_sample=False)
    return model
