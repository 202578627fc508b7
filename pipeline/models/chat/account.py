"""What requests cost, and the budget that stops a run before it is exceeded."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import BudgetError
from pipeline.models.base import Spending
from pipeline.models.chat.messages import ChatRequest, Usage
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.chat.tab import Reserve, Tab


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


class Purse:
    """Lets a request go only while the most that it can cost, and all those in flight with it, fits into the budget.

    A request that ended without telling its usage, e.g. by a timeout, may have cost the most that it can: it counts so.
    Of pictures and videos nobody knows the tokens beforehand: they go by their size, and from the first answer on by
    the most tokens that a prompt has had for its size.
    """

    def __init__(self, settings: ChatSettings, account: Account, folder: Path) -> None:
        """Take over what a killed run has left in `folder`.

        Raises:
            SetupError: that cannot be read.
        """
        self._settings = settings
        self._account = account
        self._tab = Tab(folder, is_kept=self.counts_tokens or settings.endpoint.max_requests is not None)
        self._left = dict(self._tab.open)
        self._requests_before = self._tab.requests
        self._held_prompt_tokens = self._tab.prompt_tokens
        self._held_completion_tokens = self._tab.completion_tokens
        self._held = 0
        self._untold = 0
        self._tokens_per_size = 1.0
        self._has_seen_media = False
        self._settled = asyncio.Event()

    @property
    def counts_tokens(self) -> bool:
        """Tell whether a limit is set that only the endpoint's own figures can keep."""
        budget = self._settings.endpoint
        return budget.max_total_tokens is not None or budget.max_cost is not None

    def take(self, key: str, request: ChatRequest) -> Reserve | None:
        """Set aside what `request` can cost at most and count it as sent; None where only the others leave no room.

        Raises:
            BudgetError: there would be no room for it even when all others are settled.
        """
        texts, media = request.most_prompt_tokens() if self.counts_tokens else (0, 0)
        wanted = Reserve(key, texts + math.ceil(media * self._tokens_per_size), self._settings.max_tokens, media)
        limit = self._exceeded(wanted)
        if limit is not None:
            if limit == "max_requests" or not self._held:
                raise BudgetError(self._explain(limit))
            return None
        self._tab.send(wanted)
        self._held += 1
        self._held_prompt_tokens += wanted.prompt_tokens
        self._held_completion_tokens += wanted.completion_tokens
        self._account.requests += 1
        return wanted

    async def reserve(self, key: str, request: ChatRequest) -> Reserve:
        """As `take`, waiting for others to settle.

        Raises:
            BudgetError: it does not fit.
        """
        while (reserve := self.take(key, request)) is None:
            self._settled.clear()
            await self._settled.wait()
        return reserve

    def take_over(self, key: str) -> Reserve | None:
        """Count what a killed run has sent as sent by this one, now that its answer is there; None where it has not."""
        reserve = self._left.pop(key, None)
        if reserve is not None:
            self._requests_before -= 1
            self._held += 1
            self._account.requests += 1
        return reserve

    def close(self) -> None:
        """End the run: the next one has the budget anew."""
        self._tab.tear_up()

    def settle(self, reserve: Reserve, usage: Usage | None, *, may_be_billed: bool = True) -> None:
        """Book what a request cost in the place of what was set aside for it; that stays where the cost is not told."""
        self._held -= 1
        self._account.add(usage)
        if usage is None and may_be_billed:
            self._untold += 1
        else:
            self._tab.settle(reserve.key, usage)
            self._held_prompt_tokens -= reserve.prompt_tokens
            self._held_completion_tokens -= reserve.completion_tokens
        if usage is not None and reserve.media_tokens:
            seen = usage.prompt_tokens / reserve.media_tokens
            self._tokens_per_size = max(self._tokens_per_size, seen) if self._has_seen_media else seen
            self._has_seen_media = True
        self._settled.set()

    def _exceeded(self, wanted: Reserve) -> str | None:
        """Return the name of the limit that `wanted` could exceed."""
        budget, account = self._settings.endpoint, self._account
        if budget.max_requests is not None and account.requests + self._requests_before >= budget.max_requests:
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
        untold = (
            f"; {self._untold} more told no usage and count with the most that they can cost" if self._untold else ""
        )
        if self._requests_before:
            untold += f"; {self._requests_before} requests of a run that was killed count as well"
        return (
            f"{section}.{limit}={getattr(self._settings.endpoint, limit)}: the next request could exceed it; spent in "
            f"this run: {account.requests} requests, {account.prompt_tokens} prompt and {account.completion_tokens} "
            f"completion tokens{money}{untold}. Every answer is kept: run the same command again to go on with the "
            f"same budget anew, or raise {section}.{limit}"
        )
