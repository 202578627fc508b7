"""What a validation finds, one broken rule at one place each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

# A rule that thousands of rows break is named this often, then counted.
NAMED_PER_RULE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A place where a dataset breaks a rule: which file, which row or id, what stands there and what should."""

    rule: str
    file: str
    place: str
    value: str
    limit: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}" if self.place else self.file
        return f"{where}: {self.value}; {self.limit} ({self.rule})"


class Findings:
    """Gathers findings, a bounded number for each rule and file."""

    def __init__(self) -> None:
        self._named: list[Finding] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, rule: str, file: str, place: str, value: str, limit: str) -> None:
        """Note that `rule` is broken."""
        self._counts[(rule, file)] += 1
        if self._counts[(rule, file)] <= NAMED_PER_RULE:
            self._named.append(Finding(rule=rule, file=file, place=place, value=value, limit=limit))

    def all(self) -> list[Finding]:
        """Return the findings in the order in which they were made, and how many more there are of each kind."""
        last = {(found.rule, found.file): found for found in self._named}
        more = [
            replace(last[key], place="", value=f"{count - NAMED_PER_RULE} more of this kind")
            for key, count in self._counts.items()
            if count > NAMED_PER_RULE
        ]
        return [*self._named, *more]
