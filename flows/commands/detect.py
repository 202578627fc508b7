"""`holmes detect`: what is abnormal in videos, when, and why."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.commands.model_options import AllowPickle, Device, Dtype, ModelBase, Theta, TrustRemoteCode
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.records import told_spans

if TYPE_CHECKING:
    from flows.notify import Tell
    from pipeline.infer.detection import DetectedSpan, Detection
    from pipeline.infer.detector import Detector
    from pipeline.infer.settings import DetectSettings
    from pipeline.prompts import Message

_NAME = "{name}"
_Outputs = dict[str, str | None]
"""What is written beside the result, by the option that asks for it."""

_Summariser = tuple[str, str | None]
"""The LLM that words summaries, and the URL of its endpoint."""

_ENDS_CHAT = frozenset({"/quit", "/exit"})


def detect(
    *,
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO...", help="files, folders, globs, manifests, or http(s), rtsp(s), srt, tcp, udp"),
    ] = None,
    file: Annotated[list[str] | None, typer.Option("--file", help="the same as VIDEO")] = None,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="explaining model: id, folder, holmes-tiny, or adapter")
    ] = None,
    model_base: ModelBase = None,
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", help="folder of a trained sampler; without one, parts of the video are judged"),
    ] = None,
    theta: Theta = None,
    sampling: Annotated[
        Literal["uniform", "density", "top-k", "threshold"],
        typer.Option("--sampling", help="frames of a span to show"),
    ] = "uniform",
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="trim spans to the slices that the model says Yes to")
    ] = True,
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", help="frames shown; default: as in the adapter's training, else 16")
    ] = None,
    window_s: Annotated[
        float, typer.Option("--window", help="without a sampler: length of the parts judged, in seconds")
    ] = 60.0,
    live: Annotated[
        bool, typer.Option("--live", help="every VIDEO is a stream, read once as it comes: refuse anything else")
    ] = False,
    reconnect_s: Annotated[
        float, typer.Option("--reconnect", metavar="S", help="seconds for which a broken stream is tried again")
    ] = 0.0,
    question: Annotated[str | None, typer.Option("--question", help="question about each span")] = None,
    ask: Annotated[
        list[str] | None, typer.Option("--ask", help="a further question about each video; may be repeated")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="then ask questions, line by line; /quit ends")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object per video and line")] = False,
    plot: Annotated[str | None, typer.Option("--plot", metavar="F", help="PNG of scores and spans")] = None,
    annotate: Annotated[
        str | None, typer.Option("--annotate", metavar="F", help="MP4 with scores, spans and text burnt in")
    ] = None,
    srt: Annotated[str | None, typer.Option("--srt", metavar="F", help="subtitles: one cue per span")] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="FOLDER", help="a table of what is found there, which grows and is resumed"),
    ] = None,
    on: Annotated[
        Literal["local", "ray"], typer.Option("--on", help="with --table: this machine, or a Ray cluster")
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="with --on ray: the cluster")
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            "--notify",
            metavar="URL",
            help="post each span of a stream there with clip and picture; signed by HOLMES_NOTIFY_SECRET",
        ),
    ] = None,
    summary_model: Annotated[
        str | None,
        typer.Option("--summary-model", metavar="NAME", help="LLM that words the summary; unset: a template does"),
    ] = None,
    summary_url: Annotated[
        str | None,
        typer.Option("--summary-url", metavar="URL", help="its OpenAI-compatible endpoint; unset: OPENAI_BASE_URL"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="longest answer in tokens")] = 128,
    engine: Annotated[
        Literal["transformers", "vllm"], typer.Option("--engine", help="what runs the explaining model")
    ] = "transformers",
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Find abnormal spans in videos and explain them.

    F is a file; for several videos it is a folder, or contains {name}.
    """
    from pipeline.infer.settings import DetectSettings
    from pipeline.video.live import SCHEMES, is_live

    summariser = _summariser(summary_model, summary_url)
    entries = [*(videos or []), *(file or [])]
    if not entries:
        raise SetupError("no VIDEO given")
    if (ask or chat) and model_path is None:
        raise SetupError(f"{'--ask' if ask else '--chat'} needs --model-path: a video model that answers")
    if chat and as_json:
        raise SetupError("--chat and --json exclude one another")
    settings = DetectSettings(
        sampler=sampler,
        model_path=model_path,
        model_base=model_base,
        theta=theta,
        refine=refine,
        sampling=sampling,
        num_frames=num_frames,
        window_s=window_s,
        reconnect_s=reconnect_s,
        question=question,
        max_new_tokens=max_new_tokens,
        engine=engine,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    files = [entry for entry in entries if not is_live(entry)]
    if live and files:
        raise SetupError(f"--live {files[0]}: the address of a stream is expected: {', '.join(SCHEMES)}")
    found, faults = _listed(entries)
    for fault in faults:
        typer.echo(f"holmes: {fault}", err=True)
    if chat and len(found) > 1:
        raise SetupError(f"--chat is about one video, here are {len(found)}")
    _check_streams(found, annotate, notify)
    outputs = {"--plot": plot, "--annotate": annotate, "--srt": srt}
    if table is not None:
        if chat or ask or notify or any(outputs.values()) or any(is_live(video.path) for video in found):
            raise SetupError("--table takes video files, and no --ask, --chat, --plot, --annotate, --srt or --notify")
        _fill(table, settings, found, faults, on=on, address=ray_address)
        return
    if on == "ray":
        raise SetupError("--on ray needs --table: results of many machines go into a table")
    _check_outputs(found, outputs)
    failed = len(faults) + (
        _run(settings, found, outputs, ask or [], chat=chat, as_json=as_json, notify=notify, summariser=summariser)
        if found
        else 0
    )
    if failed:
        raise DataError(f"{failed} of {len(found) + len(faults)} videos could not be used")


def _check_streams(videos: list[_Named], annotate: str | None, notify: str | None) -> None:
    from pipeline.video.live import is_live

    if annotate is not None and any(is_live(video.path) for video in videos):
        raise SetupError("--annotate reads a video again, which a stream does not allow")
    if notify is not None and not all(is_live(video.path) for video in videos):
        raise SetupError("--notify tells the spans of streams as they come; what is found in files is printed")


def _check_outputs(videos: list[_Named], outputs: _Outputs) -> None:
    for option, target in outputs.items():
        if target is not None and len(videos) > 1 and _NAME not in target and not _is_folder(target):
            raise SetupError(f"{option} {target}: for several videos name a folder (ending in /), or put {_NAME} in")


def _fill(
    table: str,
    settings: DetectSettings,
    videos: list[_Named],
    faults: list[str],
    *,
    on: Literal["local", "ray"],
    address: str | None,
) -> None:
    """Bring a table up to date with the videos, and say what became of them."""
    from flows.commands.detect_table import detect_into
    from flows.console import shown_progress

    with shown_progress() as show:
        report = detect_into(
            table, [video.path for video in videos], settings, on=on, address=address, on_progress=show
        )
    typer.echo(f"{table}: {report.rows} videos, {report.made} looked at now, in tables/{report.stage}")
    failed = len(faults) + sum(report.rejected.values())
    if failed:
        rejects = f"{table}/tables/{report.stage}/_rejected"
        raise DataError(f"{failed} of {len(videos) + len(faults)} videos could not be used: {rejects}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A video to look at, and a name for what is written about it that no other one has."""

    path: str
    name: str


class _Sheet:
    """Prints lines about a video as they come, below a heading where there is one."""

    def __init__(self, heading: str | None) -> None:
        self._heading = heading

    def line(self, text: str) -> None:
        """Print a line."""
        if self._heading is not None:
            _say(self._heading)
            self._heading = None
        _say(text)


def _run(
    settings: DetectSettings,
    videos: list[_Named],
    outputs: _Outputs,
    ask: list[str],
    *,
    chat: bool,
    as_json: bool,
    notify: str | None,
    summariser: _Summariser | None,
) -> int:
    """Detect in every video and print what was found at once; return how many could not be used."""
    from flows.notify import notifying
    from pipeline.infer.detector import Detector

    detector = Detector(settings)
    with notifying(notify) as tell:
        return _run_each(detector, videos, outputs, ask, tell, chat=chat, as_json=as_json, summariser=summariser)


def _run_each(
    detector: Detector,
    videos: list[_Named],
    outputs: _Outputs,
    ask: list[str],
    tell: Tell | None,
    *,
    chat: bool,
    as_json: bool,
    summariser: _Summariser | None,
) -> int:
    failed = 0
    for video in videos:
        sheet = None if as_json else _Sheet(f"{video.path}:" if len(videos) > 1 else None)
        try:
            found = _detect(detector, video.path, sheet, tell)
            summary = _summary(found, summariser)
            if sheet is not None and summary is not None:
                sheet.line(f"summary: {summary}")
            history = _opening(detector, found)
            asked = [(question, _answer(detector, found, question, history)) for question in ask]
            if sheet is None:
                extra: dict[str, Any] = {"summary": summary}
                extra |= {"asked": [{"question": q, "answer": a} for q, a in asked]} if ask else {}
                _say(json.dumps(found.as_json() | extra, ensure_ascii=False))
            else:
                for question, answer in asked:
                    sheet.line(f"> {question}")
                    sheet.line(answer or "")
            _write(found, video.name, detector, outputs)
        except RecordError as fault:
            # The others are looked at all the same.
            named = "" if video.path in fault.detail else f"{video.path}: "
            typer.echo(f"holmes: {named}{fault}", err=True)
            failed += 1
            continue
        if chat:
            _chat(detector, found, history)
    return failed


def _summariser(model: str | None, url: str | None) -> _Summariser | None:
    if url is not None and model is None:
        raise SetupError(f"--summary-url {url} needs --summary-model: the name of a model of the endpoint")
    return None if model is None else (model, url)


def _summary(found: Detection, summariser: _Summariser | None) -> str | None:
    from pipeline.infer.summary import summarise, summarise_by_llm

    return summarise(found) if summariser is None else summarise_by_llm(found, *summariser)


def _write(found: Detection, name: str, detector: Detector, outputs: _Outputs) -> None:
    """Write what is asked for about one video."""
    if (plot := outputs["--plot"]) is not None:
        from pipeline.infer.plot import write_plot

        write_plot(found, detector.theta, _target(plot, name, ".png"))
    if (srt := outputs["--srt"]) is not None:
        from pipeline.infer.subtitles import as_srt

        _target(srt, name, ".srt").write_text(as_srt(found), encoding="utf-8")
    if (annotate := outputs["--annotate"]) is not None:
        from pipeline.infer.annotate import write_annotated

        write_annotated(found, _target(annotate, name, ".mp4"), detector.settings.reader)


def _detect(detector: Detector, video: str, sheet: _Sheet | None, tell: Tell | None) -> Detection:
    """Detect in a video and print what was found: of a stream each span when it is over."""
    from flows.console import shown_progress
    from pipeline.video.live import is_live

    if is_live(video):

        def on_span(span: DetectedSpan) -> None:
            if sheet is not None:
                sheet.line(str(span))
            if tell is not None:
                tell(video, span, recorder)

        recorder = None if tell is None else detector.recorder()
        found = detector.watch(video, on_span, recorder)
    else:
        with shown_progress() as show:
            found = detector.detect(video, show)
        if sheet is not None:
            for span in found.spans:
                sheet.line(str(span))
    if sheet is not None and found.lost:
        sheet.line(f"no picture: {told_spans(found.lost)}")
    if sheet is not None and not found.spans:
        highest = f"{found.scores.max():.2f}" if len(found.scores) else "unknown"
        calm = f"nothing abnormal: the highest score is {highest}, a span needs {detector.theta:g}"
        sheet.line(found.answer or calm)
    return found


def _opening(detector: Detector, found: Detection) -> list[Message]:
    """Return the turns that a chat about a detection begins with: the judgement."""
    if found.answer is None:
        return []
    return [{"role": "user", "content": detector.question}, {"role": "assistant", "content": found.answer}]


def _answer(detector: Detector, found: Detection, question: str, history: list[Message]) -> str | None:
    """Ask a question that knows those before; None where it has no answer, which is then told."""
    try:
        answer = detector.ask(found, question, history)
    except RecordError as fault:
        typer.echo(f"holmes: {question}: {fault.detail}", err=True)
        return None
    history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return answer


def _chat(detector: Detector, found: Detection, history: list[Message]) -> None:
    """Answer what is typed, or piped in, until /quit, an empty line or the end."""
    while True:
        typer.echo("USER: ", nl=False, err=True)
        question = sys.stdin.readline().strip()
        if not question or question in _ENDS_CHAT:
            typer.echo("", err=True)
            return
        answer = _answer(detector, found, question, history)
        if answer is not None:
            _say(answer)


def _listed(entries: list[str]) -> tuple[list[_Named], list[str]]:
    """Return the videos that the entries name, in order, and what is wrong with other entries.

    Raises:
        DataError: they name nothing at all.
    """
    from pipeline.stages.listing import BadSource, list_sources
    from pipeline.video.live import is_live

    paths: list[str] = []
    faults: list[str] = []
    empty: list[str] = []
    for entry in entries:
        # A stream is read from where it is, and need not end.
        sources = [entry] if is_live(entry) else list(list_sources([entry]))
        if not sources:
            empty.append(f"{entry}: no video there")
        for source in sources:
            if isinstance(source, BadSource):
                faults.append(str(source.fault))
            else:
                path = source if isinstance(source, str) else source.path
                if path not in paths:
                    paths.append(path)
    if not paths and not faults:
        raise DataError(f"{', '.join(entries)}: no video there")
    faults += empty
    stems = Counter(Path(path).stem for path in paths)
    seen: Counter[str] = Counter()
    named = []
    for path in paths:
        stem = Path(path).stem
        seen[stem] += 1
        named.append(_Named(path=path, name=f"{stem}-{seen[stem]}" if stems[stem] > 1 else stem))
    return named, faults


def _target(target: str, name: str, suffix: str) -> Path:
    """Return the file to write for a video, its folder made."""
    path = Path(target.replace(_NAME, name))
    if _is_folder(target):
        path = path / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_folder(target: str) -> bool:
    return target.endswith("/") or Path(target).is_dir()


def _say(line: str) -> None:
    """Print a line of the result at once: whoever reads along a pipe need not wait for the last video."""
    typer.echo(line)
    sys.stdout.flush()
