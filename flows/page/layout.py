"""The page put together with Gradio: what stands where, and which click leads to what.

Gradio reads the annotations of handlers, so it is imported with this module, and this module only where a page is
served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from flows.page import drawing
from flows.page.gallery import OfferedVideo
from flows.page.intake import MIB, Limits
from flows.page.visits import Visit, Visits
from flows.page.working import AbandonedError
from pipeline.errors import DataError
from pipeline.stages.listing import VIDEO_SUFFIXES

QUESTION_MAX = 1000
"""Longest question in characters."""

_HERE = Path(__file__).parent

_UNUSED_FILES_S = 3600, 86_400
"""How often uploads that came to nothing are looked for, and how old they become."""

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {"queue": False, **_QUIET}
_TAKING: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "taking", **_QUIET}
_MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", **_QUIET}

Updates = dict[Any, Any]
"""New values or properties, by component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageText:
    """What the page says about itself: the names of what it works with, and what it takes."""

    model: str
    sampler: str
    limits: Limits
    can_talk: bool


def build_page(visits: Visits, offered: Sequence[OfferedVideo], text: PageText) -> gr.Blocks:
    """Return the page, not yet served."""
    return _Layout(visits, offered, text).page


class _Layout:
    """The components, and what they do."""

    def __init__(self, visits: Visits, offered: Sequence[OfferedVideo], text: PageText) -> None:
        self._visits = visits
        self._can_talk = text.can_talk
        with gr.Blocks(title="Holmes", analytics_enabled=False, delete_cache=_UNUSED_FILES_S, fill_width=True) as page:
            self._visit = gr.State(None)
            gr.HTML(drawing.draw_header(text.model, text.sampler))
            self._notice = gr.HTML("", visible=False)
            self._place_start(offered, text.limits)
            self._place_result()
            self._connect(page)
        self.page: gr.Blocks = page

    def _place_start(self, offered: Sequence[OfferedVideo], limits: Limits) -> None:
        with gr.Column(elem_id="h-start") as self._start:
            self._upload = gr.File(
                label="Video", show_label=False, file_types=sorted(VIDEO_SUFFIXES), elem_id="h-upload", height=200
            )
            self._limits = gr.HTML(
                drawing.draw_limits(limits.max_mb, limits.max_minutes), js_on_load=_script("limits"),
                max_bytes=limits.max_mb * MIB, suffixes=sorted(VIDEO_SUFFIXES),
            )  # fmt: skip
            self._gallery = gr.HTML(
                drawing.draw_gallery(offered), visible=bool(offered), js_on_load=_script("gallery"), elem_id="h-gallery"
            )

    def _place_result(self) -> None:
        with gr.Row(elem_id="h-result", visible=False) as self._result:
            with gr.Column(scale=7, min_width=320, elem_id="h-left"):
                self._player = gr.HTML("", elem_id="h-player")
                self._results = gr.HTML("", js_on_load=_script("results"), elem_id="h-results")
            with gr.Column(scale=5, min_width=320, elem_id="h-right"):
                self._verdict = gr.HTML("", elem_id="h-verdict")
                with gr.Column(elem_id="h-chat", visible=False) as self._chat:
                    self._talk = gr.HTML("", js_on_load=_script("talk"), elem_id="h-talk")
                    self._subject = gr.HTML("", js_on_load=_script("subject"), elem_id="h-subject")
                    with gr.Row(elem_id="h-ask-row"):
                        self._question = gr.Textbox(
                            placeholder="Ask a question", label="Question", show_label=False, container=False,
                            lines=1, max_lines=1, max_length=QUESTION_MAX, elem_id="h-question", scale=5,
                        )  # fmt: skip
                        self._send = gr.Button("Ask", elem_id="h-send", scale=1, min_width=70)
                with gr.Row(elem_id="h-actions"):
                    self._again = gr.Button("Another video", elem_id="h-again")
                    self._download = gr.DownloadButton("Download JSON", visible=False, elem_id="h-json")

    def _connect(self, page: gr.Blocks) -> None:
        shown = [
            self._visit, self._start, self._result, self._notice, self._player, self._results, self._verdict,
            self._chat, self._talk, self._subject, self._download, self._upload,
        ]  # fmt: skip
        finding = []
        for taken in (
            self._upload.upload(self.take_upload, [self._upload], shown, **_TAKING),
            self._gallery.choose(self.take_example, None, shown, **_TAKING),
        ):
            found = taken.success(self.detect, [self._visit], shown, **_MODEL)
            finding.append(found)
            for waiting in (taken, found):
                waiting.failure(self.refuse_busy, None, shown, **_AT_ONCE)
        for chooser in (self._results, self._subject):
            chooser.choose(self.select, [self._visit], [self._visit, self._subject], **_AT_ONCE)
        talk = [self._visit, self._talk, self._question]
        self._talk.suggest(self.ask_suggested, [self._visit], talk, **_MODEL)
        for asked in (self._question.submit, self._send.click):
            asked(self.ask, [self._visit, self._question], talk, **_MODEL)
        self._limits.refuse(self.refuse, None, shown, **_AT_ONCE)
        self._again.click(self.leave, None, shown, cancels=finding, **_AT_ONCE)
        page.unload(self.forget)

    def take_upload(self, path: str | None, request: gr.Request) -> Updates:
        if path is None:
            return self._at_start("the upload is gone; please upload it again")
        try:
            return self._taken(self._visits.take_upload(_id(request), Path(path), Path(path).name))
        except DataError as fault:
            return self._at_start(str(fault))

    def take_example(self, chosen: gr.EventData, request: gr.Request) -> Updates:
        try:
            return self._taken(self._visits.take_example(_id(request), _index(chosen)))
        except DataError as fault:
            return self._at_start(str(fault))

    def detect(self, visit: Visit | None, request: gr.Request) -> Iterator[Updates]:
        if visit is None:
            # The video was not taken, and the page says why.
            yield {self._visit: None}
            return
        try:
            steps = self._visits.detect(_id(request), visit)
            while True:
                try:
                    yield {self._results: drawing.draw_progress(next(steps))}
                except StopIteration as end:
                    detection = end.value
                    break
            written = self._visits.write_json(_id(request), visit.video, detection)
        except DataError as fault:
            yield {self._results: "", self._verdict: "", self._notice: _notice(str(fault))}
            return
        except AbandonedError:
            return
        yield {
            self._visit: visit,
            self._results: drawing.draw_results(detection),
            self._verdict: drawing.draw_verdict(detection),
            self._chat: gr.Column(visible=self._can_talk),
            self._talk: drawing.draw_conversation(()),
            self._subject: drawing.draw_subject(detection, None),
            self._download: gr.DownloadButton(value=str(written or "") or None, visible=written is not None),
        }

    def refuse(self, chosen: gr.EventData) -> Updates:
        """Say of a file, which then was not uploaded, why it is not taken."""
        name, size = chosen._data.get("name"), chosen._data.get("bytes")
        try:
            self._visits.check_file(Path(str(name)).name, size if isinstance(size, int) else 0)
        except DataError as fault:
            return self._at_start(str(fault))
        return self._at_start("")

    def refuse_busy(self) -> Updates:
        return self._at_start("too many videos are waiting already; please try again in some minutes")

    def select(self, visit: Visit | None, chosen: gr.EventData) -> Updates:
        if visit is None or visit.detection is None:
            return {self._subject: ""}
        index = _index(chosen)
        visit.selected = index if index in range(len(visit.detection.spans)) else None
        return {self._visit: visit, self._subject: drawing.draw_subject(visit.detection, visit.selected)}

    def ask(self, visit: Visit | None, question: str | None) -> Iterator[Updates]:
        question = (question or "").strip()
        if visit is None or visit.detection is None or not question:
            yield {self._question: question}
            return
        if len(question) > QUESTION_MAX:
            fault = drawing.Turn("fault", f"{len(question)} characters exceed the {QUESTION_MAX} of a question", None)
            yield {self._talk: drawing.draw_conversation([*visit.turns, fault])}
            return
        asked = drawing.Turn("user", question, visit.selected)
        yield {self._talk: drawing.draw_conversation([*visit.turns, asked], waiting=True), self._question: ""}
        self._visits.ask(visit, visit.detection, question)
        yield {self._visit: visit, self._talk: drawing.draw_conversation(visit.turns)}

    def ask_suggested(self, visit: Visit | None, chosen: gr.EventData) -> Iterator[Updates]:
        yield from self.ask(visit, str(chosen._data.get("question", "")))

    def leave(self, request: gr.Request) -> Updates:
        self.forget(request)
        return self._at_start("")

    def forget(self, request: gr.Request) -> None:
        self._visits.release(_id(request))

    def _taken(self, visit: Visit) -> Updates:
        video = visit.video
        player = drawing.draw_player(_address(video.shown), video.name, (video.facts.width, video.facts.height))
        return {
            **self._empty(),
            self._visit: visit,
            self._start: gr.Column(visible=False),
            self._result: gr.Row(visible=True),
            self._player: player,
            self._results: drawing.draw_progress(None),
            self._verdict: drawing.draw_pending(),
        }

    def _at_start(self, message: str) -> Updates:
        return {**self._empty(), self._notice: _notice(message)}

    def _empty(self) -> Updates:
        return {
            self._visit: None,
            self._start: gr.Column(visible=True),
            self._result: gr.Row(visible=False),
            self._notice: _notice(""),
            self._player: "",
            self._results: "",
            self._verdict: "",
            self._chat: gr.Column(visible=False),
            self._talk: "",
            self._subject: "",
            self._download: gr.DownloadButton(value=None, visible=False),
            self._upload: None,
        }


def _notice(message: str) -> gr.HTML:
    return gr.HTML(drawing.draw_notice(message), visible=bool(message))


def _script(name: str) -> str:
    return (_HERE / f"{name}.js").read_text(encoding="utf-8")


def _address(path: Path) -> str:
    return f"gradio_api/file={quote(str(path))}"


def _index(chosen: gr.EventData) -> Any:
    """Return what the page says was chosen: anything, since anybody can send it."""
    return chosen._data.get("index")


def _id(request: gr.Request) -> str:
    return str(request.session_hash)
