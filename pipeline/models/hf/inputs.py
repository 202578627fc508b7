"""From clips and a prompt to the inputs of a video MLLM, and from its tokens back to text.

Families differ in how they sample frames and place timestamps; what makes one code path serve all of them is to hand
over frames that are already sampled, always with their metadata, and to switch the processor's own sampling off.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.devices import is_gpu, move
from pipeline.errors import RecordError, SetupError
from pipeline.models.caption_text import clean_caption
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.answer_tokens import AnswerTokens
from pipeline.models.hf.loading import LOAD_FAULTS, ModelSource, explain_load_fault, first_line
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.prompts import Message
from pipeline.records import Reason


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a clip takes in a batch: prompt tokens, most of them visual, and the shape that its pixels must share."""

    tokens: int
    pixels: tuple[tuple[int, ...], ...]


class ClipProcessor:
    """The processor of a model, used from several threads."""

    def __init__(self, source: ModelSource, prompt: Sequence[Message]) -> None:
        """Load the processor. Raises: as `read_processor`."""
        self._processor = read_processor(source)
        self._title = f"{source.setting}={source.name}"
        self._prompt = prompt
        self._tokenizer = self._processor.tokenizer
        self._answers = AnswerTokens(self._processor, self._title)
        # Generation continues at the right end of every row, so that the padding has to stand on the left.
        self._tokenizer.padding_side = "left"
        self.pad_token_id: int = self._tokenizer.pad_token_id
        # A fast tokenizer that two threads use at once raises "Already borrowed".
        self._lock = threading.Lock()
        self._footprints: dict[tuple[int, ...], Footprint] = {}

    def footprint(self, clip: ClipFrames) -> Footprint:
        """Return what a clip takes; it is measured on the first clip of every frame shape.

        Raises:
            RecordError: the processor cannot take frames of this shape.
            SetupError: nor did it take any other.
        """
        shape = clip.frames.shape
        if shape not in self._footprints:
            try:
                inputs = self.inputs([clip], device="cpu")
            except (RuntimeError, ValueError, TypeError, LookupError) as fault:
                detail = f"frames of shape {shape}: {first_line(fault)}"
                if self._footprints:
                    raise RecordError(Reason.UNFIT_INPUT, detail) from None
                raise SetupError(f"{self._title}: cannot describe clips: {detail}") from fault
            pixels = tuple(tuple(value.shape[1:]) for name, value in sorted(inputs.items()) if "pixel" in name)
            self._footprints[shape] = Footprint(tokens=inputs["input_ids"].shape[1], pixels=pixels)
        return self._footprints[shape]

    def inputs(
        self, clips: Sequence[ClipFrames], device: str, opening: Sequence[int] = (), pads_to: int | None = None
    ) -> Any:
        """Return the inputs of a batch, padded on the left; frames are scaled and normalised on `device`.

        `opening` are tokens that every answer begins with; prompts are padded to a multiple of `pads_to` tokens.
        """
        with self._lock:
            conversations = [_conversation(clip, clip.turns or self._prompt, device) for clip in clips]
            inputs = chat_inputs(self._processor, conversations, clips, device=device, pads_to=pads_to)
        if opening:
            ids = inputs["input_ids"]
            for name, value in list(inputs.items()):
                if value.shape == ids.shape and not value.is_floating_point():
                    # What else there is for each token marks kinds of input, and text is kind 0.
                    added = ids.new_tensor(opening) if name == "input_ids" else int(name == "attention_mask")
                    longer = value.new_full((len(ids), ids.shape[1] + len(opening)), 0)
                    longer[:, : ids.shape[1]], longer[:, ids.shape[1] :] = value, added
                    inputs[name] = longer
        return inputs

    def prompt_text(self, clip: ClipFrames) -> str:
        """Return the prompt about a clip as text, one placeholder in it for the video."""
        with self._lock:
            text: str = self._processor.apply_chat_template(
                _conversation(clip, clip.turns or self._prompt), tokenize=False, add_generation_prompt=True
            )
        return text

    def plain_text(self, tokens: Sequence[int]) -> str:
        """Return tokens as the text that they were made of."""
        with self._lock:
            text: str = self._tokenizer.decode(tokens)
        return text

    def opening(self, clip: ClipFrames, text: str) -> list[int]:
        """Return the tokens of an answer about a clip that begins with `text`, up to there."""
        with self._lock:
            return self._answers.of(_conversation(clip, clip.turns or self._prompt), text)[0]

    def yes_or_no(self, clip: ClipFrames) -> tuple[list[int], set[int], set[int]]:
        """Return what an answer may begin with before it says Yes or No, and the tokens that then tell which.

        Raises:
            SetupError: no token tells.
        """
        yes, no = self.opening(clip, "Yes"), self.opening(clip, "No")
        same = next((place for place, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
        if same is None:
            raise SetupError(f"{self._title}: its tokenizer does not tell Yes from No")
        with self._lock:
            says_yes, says_no = self._answers.beginnings("Yes"), self._answers.beginnings("No")
        if same:
            return yes[:same], {yes[same]}, {no[same]}
        return [], (says_yes | {yes[0]}) - says_no - {no[0]}, (says_no | {no[0]}) - says_yes - {yes[0]}

    def text(self, tokens: Sequence[int], clip: ClipFrames, *, is_cut_off: bool) -> str:
        """Return what was answered about a clip, without special tokens, role names and echoes of the prompt."""
        with self._lock:
            text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        # What was answered before may be said again.
        asked = [message for message in clip.turns or self._prompt if message["role"] != "assistant"]
        return clean_caption(text, asked, is_cut_off=is_cut_off)


def read_processor(source: ModelSource) -> Any:
    """Return the processor of a video MLLM, its tokenizer with a token to pad with.

    Raises:
        SetupError: there is none, it takes no videos, or a package is missing that it needs.
    """
    mend_torchvision()
    from transformers import AutoProcessor

    model = source.processor or source.name
    try:
        processor: Any = AutoProcessor.from_pretrained(
            model,
            revision=None if source.processor else source.revision,
            trust_remote_code=source.trust_remote_code,
        )
    except LOAD_FAULTS as fault:
        raise explain_load_fault(fault, model, source.setting) from None
    if getattr(processor, "video_processor", None) is None:
        raise SetupError(f"{source.setting}={model}: takes no videos ({type(processor).__name__})")
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor


def _conversation(clip: ClipFrames, prompt: Sequence[Message], device: str = "cpu") -> list[dict[str, Any]]:
    """Return the turns of a chat, the clip at the head of the first one that a user has; to a GPU it goes ahead."""
    turns: list[dict[str, Any]] = []
    is_shown = False
    for message in prompt:
        content: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}]
        if message["role"] == "user" and not is_shown:
            content.insert(0, {"type": "video", "video": frames_for(clip, device)})
            is_shown = True
        turns.append({"role": message["role"], "content": content})
    return turns


def frames_for(clip: ClipFrames, device: str) -> Any:
    """Return frames as a processor takes them; those for a GPU are on their way there, shape (T, 3, H, W).

    The processor itself would wait for the copy of each clip.
    """
    if not is_gpu(device):
        return clip.frames
    import torch

    return move(torch.from_numpy(clip.frames), device).permute(0, 3, 1, 2)


def chat_inputs(
    processor: Any,
    conversations: Sequence[list[dict[str, Any]]],
    clips: Sequence[ClipFrames],
    device: str = "cpu",
    pads_to: int | None = None,
) -> Any:
    """Return the inputs of conversations that end where the model is to answer, each about one clip, padded.

    Frames are scaled and normalised on `device`.
    """
    return processor.apply_chat_template(
        list(conversations),
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={
            "do_sample_frames": False,
            "video_metadata": [
                {
                    "total_num_frames": clip.clip_frames,
                    "fps": clip.fps,
                    "duration": clip.duration_s,
                    "frames_indices": list(clip.indices),
                    "height": clip.frames.shape[1],
                    "width": clip.frames.shape[2],
                }
                for clip in clips
            ],
            "padding": True,
            **({} if pads_to is None else {"pad_to_multiple_of": pads_to}),
            "device": device,
        },
    )
