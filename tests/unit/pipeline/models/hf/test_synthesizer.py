"""The `hf` synthesizer: a tiny untrained llama for the plumbing, a stand-in for its words where they matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.journal import Journal
from pipeline.models.factory import make_synthesizer
from pipeline.models.hf.synthesizer import HfSynthesizer
from pipeline.models.hf.text import Generated, TextModel
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.records import Reason
from pipeline.workspace import Workspace

Requests = Callable[[int], Iterator[SynthesisRequest]]

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def save_llama(folder: Path, template: str | None = TEMPLATE) -> Path:
    """Save a llama of two layers with random weights and a byte-level tokenizer."""
    mend_torchvision()
    import torch
    import transformers as t
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["The video shows a street."], trainer)
    words = t.PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")
    words.chat_template = template
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = t.LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=1, pad_token_id=0, max_position_embeddings=4096,
    )  # fmt: skip
    model = t.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                # scaled up, so that what it says depends on what it is asked
                parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model."""
    return save_llama(tmp_path_factory.mktemp("llama"))


def synthesizer(model: Path | str, folder: Path, **settings: Any) -> HfSynthesizer:
    settings = {"max_tokens": 16, "batch_size": 3, "device": "cpu", "dtype": "float32", **settings}
    return HfSynthesizer(SynthesizeConfig(backend="hf", model=str(model), **settings), folder)


def test_what_is_no_reply_after_a_repair_is_rejected_and_kept_in_the_journal(
    llama: Path, tmp_path: Path, requests: Requests
) -> None:
    synth = synthesizer(llama, tmp_path)
    results = list(synth.synthesize(requests(7)))
    assert [getattr(result, "reason", None) for result in results] == [Reason.BAD_RESPONSE] * 7
    assert "after one repair" in str(results[0])
    spent = synth.spent()
    assert (spent.requests, spent.from_journal, spent.cost) == (14, 0, None)
    assert spent.prompt_tokens > 14 * 100
    assert 14 <= spent.completion_tokens <= 14 * 16
    with Journal(tmp_path) as journal:
        assert len(journal) == 14

    again = synthesizer(llama, tmp_path, batch_size=1)
    assert [str(result) for result in again.synthesize(requests(7))] == [str(result) for result in results]
    assert (again.spent().requests, again.spent().from_journal) == (0, 14)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_depends_on_its_request_and_not_on_its_batch(llama: Path, temperature: float) -> None:
    model = TextModel(str(llama), None, "cpu", "float32", "synthesize")
    prompts = [model.encode([{"role": "user", "content": "a street " * n}]) for n in (1, 9, 3, 5)]
    seeds = [1, 2, 3, 4]
    together = model.answer(prompts, 12, temperature, seeds)
    alone = [model.answer([prompt], 12, temperature, [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert together == alone
    assert len({generated.text for generated in together}) > 1
    assert [generated.prompt_tokens for generated in together] == [len(prompt) for prompt in prompts]
    if temperature:
        assert model.answer(prompts, 12, temperature, [5, 6, 7, 8]) != together


def test_a_good_model_makes_drafts_in_order_and_by_length(
    llama: Path, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[list[int]] = []

    def answer(self: TextModel, prompts: Sequence[Sequence[int]], *_: Any) -> list[Generated]:
        lengths.append([len(prompt) for prompt in prompts])
        texts = [self._tokenizer.decode(prompt) for prompt in prompts]
        replies = []
        for text in texts:
            number = text.split("number ")[1].split(".")[0]
            judgement = "normal" if " calm " in text else "abnormal"
            reply = {"judgement": judgement, "description": f"The video shows scene {number}."}
            if '"analysis"' in text:
                reply["analysis"] = f"This is {judgement} because of scene {number}."
            if "The class" not in text and '"caption"' in text:
                reply = {"caption": f"Scene {number}."}
            elif '"description"' not in text:
                del reply["description"]
            replies.append(json.dumps(reply))
        return [Generated(text=reply, is_cut_off=False, prompt_tokens=9, completion_tokens=9) for reply in replies]

    monkeypatch.setattr(TextModel, "answer", answer)
    synth = synthesizer(llama, tmp_path, batch_size=4)
    results = list(synth.synthesize(requests(12)))
    drafts = [result for result in results if isinstance(result, Draft)]
    assert len(drafts) == 12, results
    assert [f"cene {number}." in draft.answer for number, draft in enumerate(drafts)] == [True] * 12
    assert [len(batch) for batch in lengths] == [4, 4, 4]
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)


def test_a_batch_that_does_not_fit_is_halved_and_a_prompt_that_does_not_fit_is_a_fault(
    llama: Path, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    generate = TextModel._generate
    sizes: list[int] = []

    def short_of_memory(self: TextModel, prompts: Sequence[Sequence[int]], *args: Any) -> list[Generated]:
        sizes.append(len(prompts))
        if len(prompts) > 2 or any("number 2." in self._tokenizer.decode(prompt) for prompt in prompts):
            raise torch.OutOfMemoryError("no room")
        return generate(self, prompts, *args)

    monkeypatch.setattr(TextModel, "_generate", short_of_memory)
    results = list(synthesizer(llama, tmp_path, batch_size=4).synthesize(requests(4)))
    reasons = [result.reason for result in results if isinstance(result, RecordError)]
    assert reasons == [Reason.BAD_RESPONSE, Reason.BAD_RESPONSE, Reason.OUT_OF_MEMORY, Reason.BAD_RESPONSE]
    assert max(sizes) == 4


def test_what_is_missing_is_said(tmp_path: Path, requests: Requests) -> None:
    with pytest.raises(SetupError, match=r"synthesize\.model"):
        make_synthesizer(SynthesizeConfig(backend="hf"), Workspace(str(tmp_path / "w")))
    with pytest.raises(SetupError, match="no such folder"):
        list(synthesizer(str(tmp_path / "nowhere"), tmp_path).synthesize(requests(1)))
    mute = save_llama(tmp_path / "mute", template=None)
    with pytest.raises(SetupError, match="no chat template"):
        list(synthesizer(mute, tmp_path).synthesize(requests(1)))


def test_identity_changes_with_the_weights_and_the_precision(llama: Path, tmp_path: Path) -> None:
    base = synthesizer(llama, tmp_path).identity()
    assert base == synthesizer(llama, tmp_path, batch_size=9, device="auto").identity()
    assert base != synthesizer(llama, tmp_path, dtype="bfloat16").identity()
    assert base != synthesizer(llama, tmp_path, seed=3).identity()
    assert str(llama) not in json.dumps(dict(base))
