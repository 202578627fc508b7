"""A video MLLM of transformers, of any family, through the Auto classes alone.

Families differ in how they sample frames and place timestamps; what makes one code path serve all of them is to hand
over frames that are already sampled, always with their metadata, and to switch the processor's own sampling off.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.devices import pick_device, pick_dtype
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.torchvision_mend import mend_torchvision
from pipeline.prompts import Message
from pipeline.records import digest

logger = logging.getLogger(__name__)

_SAMPLED_BYTES = 1 << 20


class VideoModel:
    """Answers a prompt about clips, greedily, so that the same clip gets the same answer."""

    def __init__(self, model: str, revision: str | None, device: str, dtype: str) -> None:
        """Load processor and weights.

        Raises:
            SetupError: no such model or device, or a package is missing that the model needs.
        """
        if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
            # The hub would answer that a path makes a bad repository id.
            raise SetupError(f"caption.model={model}: no such folder")
        mend_torchvision()
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._torch = torch
        self._name = model
        self.device = pick_device(device, "caption.device")
        self._dtype = pick_dtype(dtype, self.device)
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model, revision=revision)
            self._model: Any = AutoModelForImageTextToText.from_pretrained(model, revision=revision, dtype=self._dtype)
            self._model.to(self.device).eval()
        except (OSError, ValueError, ImportError, KeyError, RuntimeError) as fault:
            raise SetupError(f"caption.model={model}: cannot be loaded: {_first_line(fault)}") from None
        if getattr(self._processor, "video_processor", None) is None:
            raise SetupError(f"caption.model={model}: takes no videos ({type(self._processor).__name__})")
        self._tokenizer = self._processor.tokenizer
        # Generation continues at the right end of every row, so that the padding has to stand on the left.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        logger.info("%s on %s in %s", model, self.device, self._dtype)

    def answer(self, clips: Sequence[ClipFrames], prompt: Sequence[Message], max_new_tokens: int) -> list[str]:
        """Return one text per clip: what the model adds to the prompt, without special tokens.

        A batch that does not fit into memory is halved until it does. All clips must have frames of one shape.

        Raises:
            MemoryError: a single clip does not fit.
            SetupError: the model cannot take such input at all.
        """
        try:
            return self._generate(clips, prompt, max_new_tokens)
        except self._torch.OutOfMemoryError:
            # The exception holds the frames of the failed call, and they its tensors: leave this block before retrying.
            pass
        except (RuntimeError, ValueError, TypeError, IndexError) as fault:
            raise SetupError(f"caption.model={self._name}: cannot describe clips: {_first_line(fault)}") from fault
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()
        if len(clips) == 1:
            raise MemoryError(f"{self._name}: one clip of shape {clips[0].frames.shape} does not fit on {self.device}")
        half = len(clips) // 2
        logger.warning("%s: out of memory at a batch of %d: halved", self._name, len(clips))
        return [text for part in (clips[:half], clips[half:]) for text in self.answer(part, prompt, max_new_tokens)]

    def _generate(self, clips: Sequence[ClipFrames], prompt: Sequence[Message], max_new_tokens: int) -> list[str]:
        inputs = self._processor.apply_chat_template(
            [_conversation(clip, prompt) for clip in clips],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={
                "do_sample_frames": False,
                "video_metadata": [_metadata(clip) for clip in clips],
                "padding": True,
            },
        ).to(self.device, dtype=self._dtype)
        with self._torch.inference_mode():
            tokens = self._model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                # Checkpoints carry sampling settings, which greedy decoding would only warn about.
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        added = tokens[:, inputs["input_ids"].shape[1] :]
        texts: list[str] = self._tokenizer.batch_decode(added, skip_special_tokens=True)
        return [text.strip() for text in texts]


def model_identity(model: str) -> str:
    """Return what tells a model's weights from others: the id, or for a folder a digest of its files.

    Of each file the name, the size and both ends are taken: training again changes them, moving the folder does not.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    return digest([_sampled(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()])


def _sampled(path: Path, folder: Path) -> tuple[str, int, str]:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_SAMPLED_BYTES)
        file.seek(max(0, size - _SAMPLED_BYTES))
        tail = file.read()
    return path.relative_to(folder).as_posix(), size, digest(head.hex(), tail.hex())


def _conversation(clip: ClipFrames, prompt: Sequence[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in prompt:
        content: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}]
        if message["role"] == "user":
            content.insert(0, {"type": "video", "video": clip.frames})
        turns.append({"role": message["role"], "content": content})
    return turns


def _metadata(clip: ClipFrames) -> dict[str, Any]:
    height, width = clip.frames.shape[1:3]
    return {
        "total_num_frames": clip.clip_frames,
        "fps": clip.fps,
        "duration": clip.duration_s,
        "frames_indices": list(clip.indices),
        "height": height,
        "width": width,
    }


def _first_line(fault: BaseException) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
