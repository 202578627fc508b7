"""What requests cost, and the budget that stops a run before it is exceeded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BudgetError
from pipeline.models.chat.messages import ChatRequest, Usage
from pipeline.models.chat.settings import ChatSettings


@dataclass(slots=True)
class Account:
    """What one run asked for and got.

    `requests` counts everything sent, `retries` the part of it that repeats a failed one; `answers` were paid for in
    this run, `from_journal` in an earlier one; `shared` were asked for while an equal request was in flight.
    `unmetered` requests ended without telling any usage, e.g. by a lost connection: whether they are billed is unknown.
    """

    requests: int = 0
    retries: int = 0
    answers: int = 0
    from_journal: int = 0
    shared: int = 0
    unmetered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, usage: Usage | None) -> None:
        """Book what a response tells."""
        if usage is None:
            self.unmetered += 1
        else:
            self.prompt_tokens += usage.prompt_tokens
            self.completion_tokens += usage.completion_tokens

    def cost(self, settings: ChatSettings) -> float | None:
        """Return what was spent, None where the model has no price."""
        return None if settings.price is None else settings.price.of(self.prompt_tokens, self.completion_tokens)

    def as_report(self, settings: ChatSettings, paid: Mapping[str, Usage]) -> dict[str, Any]:
        """Return the figures of this run and, under `workspace_`, of all runs whose answers are in the journal."""
        total = paid.get(settings.model, Usage(prompt_tokens=0, completion_tokens=0))
        price = settings.price
        return {
            "model": settings.model,
            "requests": self.requests,
            "retries": self.retries,
            "answers": self.answers,
            "from_journal": self.from_journal,
            "shared": self.shared,
            "unmetered": self.unmetered,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost(settings),
            "workspace_prompt_tokens": total.prompt_tokens,
            "workspace_completion_tokens": total.completion_tokens,
            "workspace_cost": None if price is None else price.of(total.prompt_tokens, total.completion_tokens),
        }

    def describe(self, settings: ChatSettings) -> str:
        """Return what was spent in a few words."""
        cost = self.cost(settings)
        money = "" if cost is None else f", cost {cost:.4f}"
        return (
            f"{self.requests} requests, {self.prompt_tokens} prompt tokens, "
            f"{self.completion_tokens} completion tokens{money}"
        )


@dataclass(frozen=True, slots=True)
class _Reserve:
    prompt_tokens: int
    completion_tokens: int


class Purse:
    """Lets a request go only while the most that it can cost, and all those in flight with it, fits into the budget."""

    def __init__(self, settings: ChatSettings, account: Account) -> None:
        self._settings = settings
        self._account = account
        self._reserved: list[_Reserve] = []
        self._largest_prompt = 0
        self._settled = asyncio.Event()

    @property
    def counts_tokens(self) -> bool:
        """Tell whether a limit is set that only the endpoint's own figures can keep."""
        budget = self._settings.budget
        return budget.max_total_tokens is not None or budget.max_cost is not None

    async def reserve(self, request: ChatRequest) -> _Reserve:
        """Set aside what `request` can cost at most, waiting for others to settle where it does not fit beside them.

        Of images and videos nobody knows the tokens beforehand: the largest prompt so far stands for them.

        Raises:
            BudgetError: it does not fit.
        """
        most = request.most_prompt_tokens()
        prompt = self._largest_prompt if most is None else most
        wanted = _Reserve(prompt, self._settings.max_tokens)
        while (limit := self._exceeded(wanted)) is not None:
            if limit == "max_requests" or not self._reserved:
                raise BudgetError(self._explain(limit))
            self._settled.clear()
            await self._settled.wait()
        self._reserved.append(wanted)
        return wanted

    def settle(self, reserve: _Reserve, usage: Usage | None) -> None:
        """Book what a request cost in the place of what was set aside for it."""
        self._reserved.remove(reserve)
        self._account.add(usage)
        if usage is not None:
            self._largest_prompt = max(self._largest_prompt, usage.prompt_tokens)
        self._settled.set()

    def _exceeded(self, wanted: _Reserve) -> str | None:
        """Return the name of the limit that `wanted` could exceed."""
        budget, account = self._settings.budget, self._account
        if budget.max_requests is not None and account.requests >= budget.max_requests:
            return "max_requests"
        if not self.counts_tokens:
            return None
        held = [*self._reserved, wanted]
        prompt = account.prompt_tokens + sum(one.prompt_tokens for one in held)
        completion = account.completion_tokens + sum(one.completion_tokens for one in held)
        if budget.max_total_tokens is not None and prompt + completion > budget.max_total_tokens:
            return "max_total_tokens"
        price = self._settings.price
        if budget.max_cost is not None and price is not None and price.of(prompt, completion) > budget.max_cost:
            return "max_cost"
        return None

    def _explain(self, limit: str) -> str:
        section = self._settings.section
        return (
            f"{section}.{limit}={getattr(self._settings.budget, limit)}: the next request could exceed it; "
            f"spent in this run: {self._account.describe(self._settings)}. Every answer is kept: run the "
            f"same command again to go on with the same budget, or raise {section}.{limit}"
        )
