"""A stand-in for a Label Studio server: the few answers that the client asks for, and every way to misbehave."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from http_server import Call, HttpServer, Reply

TOKEN = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StudioDouble:
    """Projects and tasks in memory. `trouble` may answer a call in place of the server."""

    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    storages: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    trouble: Callable[[str, str], Reply | None] = lambda _method, _path: None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def serve(self) -> HttpServer:
        return HttpServer(self.handle)

    def add_project(self, label_config: str, **fields: Any) -> int:
        number = len(self.projects) + 1
        self.projects[number] = {"id": number, "title": "", "description": "", "label_config": label_config, **fields}
        self.tasks[number] = []
        return number

    def add_task(self, project: int, data: dict[str, Any], *annotations: dict[str, Any]) -> int:
        number = next(self._numbers)
        task = {"id": number, "data": data, "annotations": list(annotations), "drafts": [], "predictions": []}
        self.tasks[project].append(task | {"project": project, "overlap": 1})
        return number

    def add_prediction(self, task: int, **fields: Any) -> int:
        number = 1 + max((prediction["id"] for prediction in self.predictions()), default=0)
        found = self.task(task)
        assert found is not None, f"no task {task}"
        found["predictions"].append({"id": number, "task": task, **fields})
        return number

    def task(self, number: int) -> dict[str, Any] | None:
        return next((task for tasks in self.tasks.values() for task in tasks if task["id"] == number), None)

    def predictions(self) -> list[dict[str, Any]]:
        return [one for tasks in self.tasks.values() for task in tasks for one in task["predictions"]]

    def _delete_prediction(self, number: int) -> Reply:
        for tasks in self.tasks.values():
            for task in tasks:
                kept = [prediction for prediction in task["predictions"] if prediction["id"] != number]
                if len(kept) < len(task["predictions"]):
                    task["predictions"] = kept
                    return Reply(status=204)
        return _json({"detail": "Not found."}, 404)

    def handle(self, call: Call) -> Reply:
        parts = urlsplit(call.path)
        self.calls.append((call.method, parts.path))
        if (reply := self.trouble(call.method, call.path)) is not None:
            return reply
        if call.headers.get("authorization") != f"Token {TOKEN}":
            return _json({"detail": "Invalid token."}, 401)
        return self._answer(call, parts.path.strip("/").split("/")[1:], parse_qs(parts.query))

    def _answer(self, call: Call, path: list[str], query: dict[str, list[str]]) -> Reply:  # noqa: PLR0911
        body = json.loads(call.body) if call.body else None
        match call.method, path:
            case "GET", ["projects"]:
                title = query.get("title", [""])[0]
                found = [project for project in self.projects.values() if title in project["title"]]
                return _json({"count": len(found), "results": found if query["page"] == ["1"] else []})
            case "POST", ["projects"] if len(body["title"]) > 50:
                return refusal(400, title=["Ensure this field has no more than 50 characters."])
            case "POST", ["projects"]:
                return _json(self.projects[self.add_project(**body)], 201)
            case "GET", ["projects", number] if int(number) in self.projects:
                return _json(self.projects[int(number)])
            case "PATCH", ["projects", number]:
                self.projects[int(number)] |= body
                return _json(self.projects[int(number)])
            case "POST", ["projects", number, "import"]:
                for task in body:
                    self.add_task(int(number), task["data"])
                return _json({"task_count": len(body)}, 201)
            case "GET", ["projects", number, "export"]:
                asked = {int(text) for text in query.get("ids[]", [])}
                return _json([task for task in self.tasks[int(number)] if not asked or task["id"] in asked])
            case "GET", ["tasks"]:
                return self._page(query)
            case _, ["tasks", number] if (task := self.task(int(number))) is not None:
                if call.method == "DELETE":
                    self.tasks[task["project"]].remove(task)
                    return Reply(status=204)
                task.update(body or {})
                return _json(task | {"total_annotations": len(task["annotations"])})
        return self._further_answer(call.method, path, query, body)

    def _further_answer(self, method: str, path: list[str], query: dict[str, list[str]], body: Any) -> Reply:
        match method, path:
            case "GET", ["storages", "localfiles"]:
                return _json(self.storages)
            case "POST", ["storages", "localfiles"]:
                self.storages.append({"id": len(self.storages) + 1, **body})
                return _json(self.storages[-1], 201)
            case "POST", ["projects", _, "import", "predictions"]:
                for prediction in body:
                    self.add_prediction(**prediction)
                return _json({"created": len(body)}, 201)
            case "DELETE", ["predictions", number]:
                return self._delete_prediction(int(number))
            case method, ["webhooks", *number]:
                return self._webhook(method, number, body, query)
        return _json({"detail": "Not found."}, 404)

    def _webhook(self, method: str, number: list[str], body: Any, query: dict[str, list[str]]) -> Reply:
        if method == "GET":
            return _json([hook for hook in self.webhooks if str(hook["project"]) == query["project"][0]])
        if method == "POST":
            self.webhooks.append({"id": len(self.webhooks) + 1, **body})
            return _json(self.webhooks[-1], 201)
        self.webhooks[int(number[0]) - 1].update(body)
        return _json(self.webhooks[int(number[0]) - 1])

    def _page(self, query: dict[str, list[str]]) -> Reply:
        tasks = self.tasks[int(query["project"][0])]
        page, size = int(query["page"][0]), int(query["page_size"][0])
        part = tasks[(page - 1) * size : page * size]
        if not part and page > 1:
            return _json({"detail": "Invalid page."}, 404)
        light = part
        if query["fields"] != ["all"]:
            light = [{key: task[key] for key in ("id", "data", "project", "overlap")} for task in part]
        return _json({"total": len(tasks), "total_annotations": 0, "total_predictions": 0, "tasks": light})


def refusal(status: int, **fields: Any) -> Reply:
    """Return a refusal as Label Studio 1.23.2 words it."""
    said = {"id": "0-0", "status_code": status, "version": "1.23.2", "detail": "Validation error", "exc_info": None}
    return _json(said | {"validation_errors": fields}, status)


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(body=json.dumps(value).encode(), status=status)
