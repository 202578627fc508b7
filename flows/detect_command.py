"""`holmes detect`: what is abnormal in videos, when, and why."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipeline.errors import DataError, RecordError, SetupError

if TYPE_CHECKING:
    from pipeline.infer.detection import Detection
    from pipeline.infer.detector import Detector, Progress
    from pipeline.infer.settings import DetectSettings
    from pipeline.prompts import Message

logger = logging.getLogger(__name__)

_NAME = "{name}"
_ENDS_CHAT = frozenset({"/quit", "/exit"})


def detect(
    *,
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO...", help="files, folders, globs, manifests, or http(s) and rtsp streams"),
    ] = None,
    file: Annotated[list[str] | None, typer.Option("--file", help="the same as VIDEO")] = None,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="video model that explains: id, folder, holmes-tiny, or adapter")
    ] = None,
    model_base: Annotated[
        str | None, typer.Option("--model-base", help="base of the adapter; default: the one it was trained on")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option("--sampler", help="folder of a trained sampler; without one, sampling is uniform")
    ] = None,
    theta: Annotated[
        float | None,
        typer.Option("--theta", help="score from which a peak makes a span; default: the sampler's own, else 0.8"),
    ] = None,
    sampling: Annotated[
        str, typer.Option("--sampling", help="frames of a span to show: uniform, density, top-k or threshold")
    ] = "uniform",
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", help="how many; default: as the adapter was trained, else 8")
    ] = None,
    window_s: Annotated[
        float, typer.Option("--window", help="seconds of a part that is judged at once without a sampler")
    ] = 60.0,
    question: Annotated[str | None, typer.Option("--question", help="what is asked about each span")] = None,
    ask: Annotated[
        list[str] | None, typer.Option("--ask", help="a further question about each video; may be repeated")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="then ask on, line by line; /quit ends")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a video, one a line")] = False,
    plot: Annotated[str | None, typer.Option("--plot", metavar="F", help="PNG of scores and spans")] = None,
    annotate: Annotated[
        str | None, typer.Option("--annotate", metavar="F", help="MP4 with scores, spans and text burnt in")
    ] = None,
    srt: Annotated[str | None, typer.Option("--srt", metavar="F", help="subtitles: a cue for each span")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="longest answer in tokens")] = 128,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="run code that comes with the model")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="read weights from pickle files, which can run code")
    ] = False,
) -> None:
    """Find the abnormal spans of videos and have them explained.

    F is a file; for several videos it is a folder, or holds {name}.
    """
    from pipeline.infer.settings import DetectSettings

    entries = [*(videos or []), *(file or [])]
    if not entries:
        raise SetupError("no VIDEO given")
    if (ask or chat) and model_path is None:
        raise SetupError(f"{'--ask' if ask else '--chat'} needs --model-path: a video model that answers")
    if chat and as_json:
        raise SetupError("--chat and --json exclude one another")
    _check_choice("--sampling", sampling, ("uniform", "density", "top-k", "threshold"))
    _check_choice("--dtype", dtype, ("auto", "float32", "bfloat16", "float16"))
    settings = DetectSettings(
        sampler=sampler,
        model_path=model_path,
        model_base=model_base,
        theta=theta,
        sampling=cast(Any, sampling),
        num_frames=num_frames,
        window_s=window_s,
        question=question,
        max_new_tokens=max_new_tokens,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    found, faults = _listed(entries)
    for fault in faults:
        typer.echo(f"holmes: {fault}", err=True)
    if chat and len(found) > 1:
        raise SetupError(f"--chat is about one video, here are {len(found)}")
    outputs = _Outputs(plot=plot, annotate=annotate, srt=srt, several=len(found) > 1)
    failed = len(faults) + (_run(settings, found, outputs, ask or [], chat=chat, as_json=as_json) if found else 0)
    if failed:
        raise DataError(f"{failed} of {len(found) + len(faults)} videos could not be used")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A video to look at, and a name for what is written about it that no other one has."""

    path: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outputs:
    """What is written beside the result, each as the command line says; None writes nothing."""

    plot: str | None
    annotate: str | None
    srt: str | None
    several: bool

    def __post_init__(self) -> None:
        for option, target in (("--plot", self.plot), ("--annotate", self.annotate), ("--srt", self.srt)):
            if target is not None and self.several and _NAME not in target and not _is_folder(target):
                raise SetupError(
                    f"{option} {target}: for several videos name a folder (ending in /), or put {_NAME} in"
                )

    def write(self, detection: Detection, name: str, detector: Detector) -> None:
        """Write what is asked for about one video."""
        if self.plot is not None:
            from pipeline.infer.plot import write_plot

            write_plot(detection, detector.theta, _target(self.plot, name, ".png"))
        if self.srt is not None:
            from pipeline.infer.subtitles import as_srt

            _target(self.srt, name, ".srt").write_text(as_srt(detection), encoding="utf-8")
        if self.annotate is not None:
            from pipeline.infer.annotate import write_annotated

            write_annotated(detection, _target(self.annotate, name, ".mp4"), detector.settings.reader)


def _run(
    settings: DetectSettings, videos: list[_Named], outputs: _Outputs, ask: list[str], *, chat: bool, as_json: bool
) -> int:
    """Detect in every video and print what was found at once; return how many could not be used."""
    from flows.console import shown_progress
    from pipeline.infer.detector import Detector

    detector = Detector(settings)
    failed = 0
    for video in videos:
        try:
            with shown_progress() as show:
                found = _detect(detector, video.path, show)
            history = _opening(detector, found)
            asked = _asked(detector, found, ask, history)
            outputs.write(found, video.name, detector)
        except RecordError as fault:
            # The others are looked at all the same.
            typer.echo(f"holmes: {video.path}: {fault}", err=True)
            failed += 1
            continue
        if as_json:
            extra = {"asked": [{"question": q, "answer": a} for q, a in asked]} if ask else {}
            _say(json.dumps(found.as_json() | extra, ensure_ascii=False))
        else:
            if len(videos) > 1:
                _say(f"{video.path}:")
            for line in (*told(found, detector.theta), *(line for q, a in asked for line in (f"> {q}", a))):
                _say(line)
        if chat:
            _chat(detector, found, history)
    return failed


def _detect(detector: Detector, video: str, show: Progress) -> Detection:
    return detector.detect(video, show)


def told(found: Detection, theta: float) -> Iterator[str]:
    """Yield the lines that tell a person what was found."""
    for span in found.spans:
        yield f"[{span.start_s:.1f}s~{span.end_s:.1f}s] {span.answer or f'score {span.score:.2f}'}"
    if not found.spans:
        highest = f"{found.scores.max():.2f}" if len(found.scores) else "unknown"
        yield found.answer or f"nothing abnormal: the highest score is {highest}, a span needs {theta:g}"


def _opening(detector: Detector, found: Detection) -> list[Message]:
    """Return the turns that a chat about a detection begins with: the judgement."""
    if found.answer is None:
        return []
    return [{"role": "user", "content": detector.question}, {"role": "assistant", "content": found.answer}]


def _asked(
    detector: Detector, found: Detection, questions: Iterable[str], history: list[Message]
) -> list[tuple[str, str]]:
    """Ask one question after the other, each knowing those before, and return them with their answers."""
    asked = []
    for question in questions:
        answer = detector.ask(found, question, history)
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        asked.append((question, answer))
    return asked


def _chat(detector: Detector, found: Detection, history: list[Message]) -> None:
    """Answer what is typed, or piped in, until /quit, an empty line or the end."""
    while True:
        typer.echo("USER: ", nl=False, err=True)
        line = sys.stdin.readline()
        question = line.strip()
        if not question or question in _ENDS_CHAT:
            typer.echo("", err=True)
            return
        try:
            [(_, answer)] = _asked(detector, found, [question], history)
        except RecordError as fault:
            typer.echo(f"holmes: {fault.detail}", err=True)
            continue
        _say(answer)


def _listed(entries: list[str]) -> tuple[list[_Named], list[str]]:
    """Return the videos that the entries name, in order, and what is wrong with other entries.

    Raises:
        DataError: they name nothing at all.
    """
    from pipeline.stages.listing import BadSource, list_sources

    paths: list[str] = []
    faults: list[str] = []
    for source in list_sources(entries):
        if isinstance(source, BadSource):
            faults.append(str(source.fault))
        else:
            paths.append(source.path)
    if not paths and not faults:
        raise DataError(f"{', '.join(entries)}: no video there")
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


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SetupError(f"{option}={value}: one of {', '.join(choices)} is expected")


def _say(line: str) -> None:
    """Print a line of the result at once: whoever reads along a pipe need not wait for the last video."""
    typer.echo(line)
    sys.stdout.flush()
