"""The `openai` synthesizer: answers by an LLM behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, Spending, SynthesisRequest
from pipeline.models.chat.batch import BatchRunner
from pipeline.models.chat.drafts import Drafter, prompt_ids
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import chat_settings
from pipeline.prompts import hash_prompts
from pipeline.workspace import Workspace


class OpenAISynthesizer:
    """Asks for a JSON object per answer, validates it, and gives the model one chance to repair it."""

    def __init__(self, config: SynthesizeConfig, journal: Path) -> None:
        """Check that the call can work as far as that shows without the network; `journal` is a folder.

        Raises:
            SetupError: no model is named, the URL or the key is malformed, or there is neither of the two.
        """
        settings = chat_settings("synthesize", config)
        self.name = settings.model
        self._config = config
        self._runner: ChatRunner | BatchRunner
        if config.transport == "batch":
            self._runner = BatchRunner(settings, journal, size=config.batch_requests, poll_s=config.poll_s)
        else:
            self._runner = ChatRunner(settings, journal)
        self._drafter = Drafter(settings)
        self._prompt_hashes = hash_prompts(prompt_ids(config.tasks, config.levels))

    def identity(self) -> Mapping[str, object]:
        """Return model, prompts and sampling settings; where the endpoint runs and how it is called changes no text."""
        return {
            "backend": "openai",
            "code": 4,
            "model": self._config.model,
            "prompts": self._prompt_hashes,
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
            "seed": self._config.seed,
        }

    def spent(self) -> Spending:
        return self._runner.spent()

    def synthesize(self, requests: Iterable[SynthesisRequest]) -> Iterator[Draft | RecordError]:
        """Yield in the order of `requests`, with up to `concurrency` of them in flight, or a batch at a time.

        Raises:
            SetupError: key or model are refused, nothing answers before the first success, or everything fails.
            BudgetError: the next request could exceed the budget.
        """
        return self._runner.run(requests, self._drafter.draft)


def make_synthesizer(config: SynthesizeConfig, workspace: Workspace) -> OpenAISynthesizer:
    """Make the synthesizer `openai`."""
    return OpenAISynthesizer(config, workspace.journal_folder("synthesize"))
