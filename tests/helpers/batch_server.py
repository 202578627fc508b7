"""An endpoint that speaks /files and /batches over the answers of `chat_server`."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from chat_server import Books, complete, error
from http_server import Call, Reply


class BatchModel:
    """Runs batches as they are looked at: each is done at the look number `looks`.

    Args:
        looks: polls until a batch is done.
        lose_create: the answer to this submission, counted from 0, never arrives, though the batch runs.
        faults: by place in the file, how the answer is spoilt (see `chat_server.write`), or an HTTP status.
        expired: share of each first batch that is left unanswered when it expires.
        refuses: how every batch is refused, an HTTP status and words.
        refused_field: a field of requests that the model does not take.
        billed: whether answers tell their usage.
    """

    def __init__(
        self,
        *,
        looks: int = 2,
        lose_create: int | None = None,
        faults: dict[int, str | int] | None = None,
        expired: float = 0.0,
        refuses: tuple[int, str] | None = None,
        refused_field: str | None = None,
        billed: bool = True,
    ) -> None:
        self.books = Books()
        self.batches: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self._looks = looks
        self._lose_create = lose_create
        self._faults = faults or {}
        self._expired = expired
        self._refuses = refuses
        self._refused_field = refused_field
        self._billed = billed

    def handle(self, call: Call) -> Reply:
        """Answer a call to any path of the two."""
        path = call.path.removeprefix("/v1").partition("?")[0].rstrip("/")
        if path == "/files" and call.method == "POST":
            return self._upload(call)
        if path.startswith("/files/") and path.endswith("/content"):
            return Reply(body=self.files[path.split("/")[2]])
        if path == "/batches" and call.method == "POST":
            return self._create(json.loads(call.body))
        if path == "/batches":
            return _json({"object": "list", "data": self.batches[::-1], "has_more": False})
        if path.startswith("/batches/"):
            return self._look(path.split("/")[2])
        return error(404, f"no path {path}")

    def _upload(self, call: Call) -> Reply:
        boundary = call.headers["content-type"].partition("boundary=")[2].encode()
        part = next(part for part in call.body.split(b"--" + boundary) if b'name="file"' in part)
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return _json(
            {"id": file_id, "object": "file", "bytes": 1, "created_at": 0, "filename": "f", "purpose": "batch"}
        )

    def _create(self, body: dict[str, Any]) -> Reply:
        if self._refuses is not None:
            return error(*self._refuses)
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": 0,
            "metadata": body["metadata"],
            "looks": 0,
        }
        self.batches.append(batch)
        if self._lose_create == len(self.batches) - 1:
            return Reply(wire="reset")
        return _json(batch)

    def _look(self, batch_id: str) -> Reply:
        batch = next(batch for batch in self.batches if batch["id"] == batch_id)
        batch["looks"] += 1
        if batch["looks"] == self._looks:
            self._finish(batch)
        return _json(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        answered, failed = [], []
        kept = len(lines) - int(self._expired * len(lines)) if batch["id"] == "batch_0" else len(lines)
        for number, line in enumerate(lines[:kept]):
            fault = self._faults.get(number, "none") if len(line["body"]["messages"]) <= 2 else "none"
            name = hashlib.sha256(json.dumps(line["body"]).encode()).hexdigest()[:16]
            self.books.calls[name] += 1
            if self._refused_field in line["body"]:
                body = {"error": {"message": f"Unsupported parameter: '{self._refused_field}'."}}
                failed.append(_result(line["custom_id"], 400, body))
                continue
            if isinstance(fault, int):
                body = {"error": {"message": "it failed"}}
                failed.append(_result(line["custom_id"], fault, body))
                continue
            body = complete(line["body"], name, fault)
            if self._billed:
                self.books.bill(body["usage"])
            else:
                del body["usage"]
            self.books.answered[name] += 1
            # a file may hold a line twice, and not in the order of the input
            answered += [_result(line["custom_id"], 200, body)] * (2 if number % 5 == 0 else 1)
        batch["status"] = "completed" if kept == len(lines) else "expired"
        for field, results in (("output_file_id", answered[::-1]), ("error_file_id", failed)):
            if results:
                file_id = f"file-{len(self.files)}"
                self.files[file_id] = "\n".join(map(json.dumps, results)).encode() + b"\n"
                batch[field] = file_id


def _result(custom_id: str, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "r", "custom_id": custom_id, "response": {"status_code": status, "body": body}, "error": None}


def _json(value: object) -> Reply:
    return Reply(body=json.dumps(value).encode())
