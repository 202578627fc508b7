"""What can go wrong, sorted by who is at fault.

The data (exit code 1), the environment or the call (exit code 2), or one record, which becomes a
`Rejected` row while the run goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pipeline.records import Reason


class HolmesError(Exception):
    """A failure that ends a command with one clear message and no traceback."""

    exit_code: ClassVar[int] = 2


class DataError(HolmesError):
    """The input as a whole is unusable; the message names file, row or path, value and limit."""

    exit_code = 1


class SetupError(HolmesError):
    """The environment or the call is at fault: no disk, no model, a wrong key, a missing package."""


class UnavailableError(SetupError):
    """Something outside does not answer now, e.g. an endpoint: the same call may succeed later."""


class BudgetError(SetupError):
    """The next request could cost more than the caller allows: what is finished is kept, the next run goes on."""


class ConfigError(SetupError):
    """The configuration names an unknown key, a wrong type or a value outside its range."""


class RecordError(Exception):
    """One record cannot be made; `run_stage` turns this into a `Rejected` row.

    `detail` names the value and the limit it broke: it is read by a person who has to repair the input.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[RecordError], tuple[Reason, str]]:
        # Exceptions cross process borders by pickling their args, which here are not the constructor's.
        return type(self), (self.reason, self.detail)
