"""What is answered to a call that is not carried out: a status of HTTP, a code for programs, a message for people."""

from __future__ import annotations


class ApiFault(Exception):  # noqa: N818 - an answer, no fault of ours
    """A refusal: `status` of HTTP, `code` that never changes, and a message with value and limit."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def as_json(self) -> dict[str, dict[str, str]]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}
