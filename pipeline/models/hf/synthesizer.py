"""The `hf` synthesizer: answers by an LLM of transformers in this process, under the contract of the `openai` one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import Draft, Spending, SynthesisRequest
from pipeline.models.chat.account import Account
from pipeline.models.chat.drafts import Drafter, prompt_ids
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import ChatRequest, Usage
from pipeline.models.chat.rounds import Rounds
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.hf.model import model_identity
from pipeline.models.hf.text import Generated, TextModel
from pipeline.prompts import hash_prompts
from pipeline.records import digest
from pipeline.workspace import Workspace

_VERSION = 4

# Requests are sorted by length among so many batches: the more, the less padding, and the later the first answer.
_BATCHES_PER_GROUP = 16


class HfSynthesizer:
    """Generates answers in batches of prompts of like length; what was generated is journaled as if it were paid."""

    def __init__(self, config: SynthesizeConfig, journal: Path) -> None:
        """Check the settings; the model itself is loaded with the first request. `journal` is a folder.

        Raises:
            SetupError: no model is named.
        """
        if not config.model:
            raise SetupError("synthesize.backend=hf needs synthesize.model: the id or folder of a chat model")
        # A folder's place is nobody's business but this machine's: its name goes into the dataset.
        self.name = Path(config.model).name if Path(config.model).is_dir() else config.model
        self._config = config
        self._identity = model_identity(config.model)
        self._settings = ChatSettings(
            section="synthesize",
            # In the journal's keys other weights, also at the same place, are another model.
            model=digest(self._identity, config.revision, config.dtype),
            temperature=config.temperature,
            max_tokens=config.max_tokens,
            seed=config.seed,
        )
        self._drafter = Drafter(self._settings)
        self._journal = Journal(journal)
        self._account = Account()
        self._prompt_hashes = hash_prompts(prompt_ids(config.tasks, config.levels))
        self._model: TextModel | None = None

    def identity(self) -> Mapping[str, object]:
        """Return model, prompts and sampling settings; device and batches change no more than the last digits."""
        config = self._config
        return {
            "backend": "hf",
            "version": _VERSION,
            "model": self._identity,
            "revision": config.revision,
            "dtype": config.dtype,
            "prompts": self._prompt_hashes,
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "seed": config.seed,
        }

    def spent(self) -> Spending:
        return replace(self._account.spending(self._settings, self._journal.paid), model=self.name)

    def synthesize(self, requests: Iterable[SynthesisRequest]) -> Iterator[Draft | RecordError]:
        """Yield in the order of `requests`, a group of batches at a time.

        Raises:
            SetupError: the model cannot be loaded or takes no such conversations.
        """
        size = self._config.batch_size * _BATCHES_PER_GROUP
        with self._journal:
            rounds = Rounds(self._settings, self._journal, self._account, self._answer, size)
            yield from rounds.run(requests, self._drafter.draft)

    def _answer(self, requests: Mapping[str, ChatRequest]) -> dict[str, RecordError]:
        config = self._config
        if self._model is None:
            self._model = TextModel(str(config.model), config.revision, config.device, config.dtype, "synthesize")
        prompts = {key: self._model.encode(request.messages) for key, request in requests.items()}
        # The longest first: what does not fit into memory shows at once.
        keys = sorted(prompts, key=lambda key: len(prompts[key]), reverse=True)
        failures: dict[str, RecordError] = {}
        for first in range(0, len(keys), config.batch_size):
            failures |= self._generate(self._model, keys[first : first + config.batch_size], prompts)
        self._journal.sync()
        return failures

    def _generate(self, model: TextModel, keys: list[str], prompts: Mapping[str, list[int]]) -> dict[str, RecordError]:
        config = self._config
        seeds = [int(digest(config.seed, key)[:12], 16) for key in keys]
        answers = model.answer([prompts[key] for key in keys], config.max_tokens, config.temperature, seeds)
        failures = {}
        for key, generated in zip(keys, answers, strict=True):
            if isinstance(generated, RecordError):
                failures[key] = generated
                continue
            usage = Usage(prompt_tokens=generated.prompt_tokens, completion_tokens=generated.completion_tokens)
            self._journal.append(key, self._settings.model, _as_body(generated), usage)
            self._account.requests += 1
            self._account.answers += 1
            self._account.add(usage)
        return failures


def _as_body(generated: Generated) -> str:
    """Return the response that an endpoint would send."""
    choice = {
        "message": {"role": "assistant", "content": generated.text},
        "finish_reason": "length" if generated.is_cut_off else "stop",
    }
    return json.dumps({"choices": [choice]})


def make_synthesizer(config: SynthesizeConfig, workspace: Workspace) -> HfSynthesizer:
    """Make the synthesizer `hf`."""
    return HfSynthesizer(config, workspace.journal_folder("synthesize"))
