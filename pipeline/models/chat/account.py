"""What requests cost, and the budget that stops a run before it is exceeded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.errors import BudgetError
from pipeline.models.base import Spending
from pipeline.models.chat.messages import ChatRequest, Usage
from pipeline.models.chat.settings import ChatSettings


@dataclass(slots=True)
class Account:
    """What one run asked for and got; `Spending` says what each count means."""

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

    def spending(self, settings: ChatSettings, paid: Mapping[str, Usage]) -> Spending:
        """Return the figures of this run and, from the tokens `paid` for each model, of all runs of the workspace."""
        total = paid.get(settings.model, Usage(prompt_tokens=0, completion_tokens=0))
        price = settings.price
        return Spending(
            model=settings.model,
            **asdict(self),
            cost=None if price is None else price.of(self.prompt_tokens, self.completion_tokens),
            workspace_prompt_tokens=total.prompt_tokens,
            workspace_completion_tokens=total.completion_tokens,
            workspace_cost=None if price is None else price.of(total.prompt_tokens, total.completion_tokens),
        )


@dataclass(frozen=True, slots=True)
class Reserve:
    """The most that a request can cost, in tokens."""

    prompt_tokens: int
    completion_tokens: int


class Purse:
    """Lets a request go only while the most that it can cost, and all those in flight with it, fits into the budget.

    Of images and videos nobody knows the tokens beforehand: the largest prompt so far stands for them.
    """

    def __init__(self, settings: ChatSettings, account: Account) -> None:
        self._settings = settings
        self._account = account
        self._held_prompt_tokens = 0
        self._held_completion_tokens = 0
        self._held = 0
        self._largest_prompt = 0
        self._settled = asyncio.Event()

    @property
    def counts_tokens(self) -> bool:
        """Tell whether a limit is set that only the endpoint's own figures can keep."""
        budget = self._settings.endpoint
        return budget.max_total_tokens is not None or budget.max_cost is not None

    def take(self, request: ChatRequest) -> Reserve | None:
        """Set aside what `request` can cost at most and count it as sent; None where only the others leave no room.

        Raises:
            BudgetError: there would be no room for it even when all others are settled.
        """
        most = request.most_prompt_tokens()
        wanted = Reserve(self._largest_prompt if most is None else most, self._settings.max_tokens)
        limit = self._exceeded(wanted)
        if limit is not None:
            if limit == "max_requests" or not self._held:
                raise BudgetError(self._explain(limit))
            return None
        self._held += 1
        self._held_prompt_tokens += wanted.prompt_tokens
        self._held_completion_tokens += wanted.completion_tokens
        self._account.requests += 1
        return wanted

    async def reserve(self, request: ChatRequest) -> Reserve:
        """As `take`, waiting for others to settle.

        Raises:
            BudgetError: it does not fit.
        """
        while (reserve := self.take(request)) is None:
            self._settled.clear()
            await self._settled.wait()
        return reserve

    def settle(self, reserve: Reserve, usage: Usage | None) -> None:
        """Book what a request cost in the place of what was set aside for it."""
        self._held -= 1
        self._held_prompt_tokens -= reserve.prompt_tokens
        self._held_completion_tokens -= reserve.completion_tokens
        self._account.add(usage)
        if usage is not None:
            self._largest_prompt = max(self._largest_prompt, usage.prompt_tokens)
        self._settled.set()

    def _exceeded(self, wanted: Reserve) -> str | None:
        """Return the name of the limit that `wanted` could exceed."""
        budget, account = self._settings.endpoint, self._account
        if budget.max_requests is not None and account.requests >= budget.max_requests:
            return "max_requests"
        prompt = account.prompt_tokens + self._held_prompt_tokens + wanted.prompt_tokens
        completion = account.completion_tokens + self._held_completion_tokens + wanted.completion_tokens
        if budget.max_total_tokens is not None and prompt + completion > budget.max_total_tokens:
            return "max_total_tokens"
        price = self._settings.price
        if budget.max_cost is not None and price is not None and price.of(prompt, completion) > budget.max_cost:
            return "max_cost"
        return None

    def _explain(self, limit: str) -> str:
        section, account, price = self._settings.section, self._account, self._settings.price
        money = "" if price is None else f", cost {price.of(account.prompt_tokens, account.completion_tokens):.4f}"
        return (
            f"{section}.{limit}={getattr(self._settings.endpoint, limit)}: the next request could exceed it; spent in "
            f"this run: {account.requests} requests, {account.prompt_tokens} prompt and {account.completion_tokens} "
            f"completion tokens{money}. Every answer is kept: run the same command again to go on with the same budget "
            f"anew, or raise {section}.{limit}"
        )
