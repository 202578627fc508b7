"""`holmes detect` as it is called."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import cli
from pipeline.errors import RecordError
from pipeline.records import Reason

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def holmes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command in this process; return exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["holmes", "detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_spans_are_printed_with_their_answers(
    holmes: Run, event_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    code, out, _ = holmes(event_video, "--sampler", sampler_folder, "--model-path", "model")
    assert code == 0
    assert out == "[8.0s~12.2s] Yes, a square dashes about.\n"


def test_calm_videos_are_denied(holmes: Run, calm_video: Path, sampler_folder: Path, scripted: Any) -> None:
    assert holmes(calm_video, "--sampler", sampler_folder, "--model-path", "model")[:2] == (0, "No, nothing moves.\n")
    code, out, _ = holmes("--file", calm_video, "--sampler", sampler_folder)
    assert code == 0
    assert out.startswith("nothing abnormal: the highest score is 0.0")


def test_json_is_one_object_a_line(
    holmes: Run, event_video: Path, calm_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    scripted_out = holmes(
        event_video, calm_video, "--sampler", sampler_folder, "--model-path", "m", "--json", "--ask", "Which colour?"
    )
    code, out, _ = scripted_out
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert list(first) == [
        "video", "fps", "duration_s", "is_anomaly", "answer", "confidence", "consistent", "spans", "lost", "scores",
        "summary", "asked",
    ]  # fmt: skip
    assert (first["confidence"], first["spans"][0]["confidence"], second["confidence"]) == (0.9474, 0.9474, 0.1053)
    assert (first["video"], first["is_anomaly"], len(first["spans"])) == (str(event_video), True, 1)
    assert (second["is_anomaly"], second["spans"], len(second["scores"]["values"])) == (False, [], 40)
    assert first["asked"] == [{"question": "Which colour?", "answer": "Yes, a square dashes about."}]


def test_bad_videos_are_named_and_the_others_go_on(
    holmes: Run, event_video: Path, sampler_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    shutil.copy(event_video, tmp_path / "good.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(event_video.read_bytes()[:-20_000])
    code, out, err = holmes(tmp_path, tmp_path / "gone.mp4", "--sampler", sampler_folder)
    assert code == 1
    assert out == f"{tmp_path}/good.mp4:\n[8.0s~12.2s] score 1.00\n"
    for name in ("broken.mp4", "cut.mp4", "gone.mp4"):
        assert err.count(f"{tmp_path}/{name}") == 1
    assert "3 of 4 videos could not be used" in err


def test_a_folder_without_videos_is_named_beside_others(
    holmes: Run, event_video: Path, sampler_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = holmes(tmp_path / "empty", event_video, "--sampler", sampler_folder)
    assert (code, out) == (1, "[8.0s~12.2s] score 1.00\n")
    assert f"{tmp_path}/empty: no video there" in err
    assert "1 of 2 videos could not be used" in err


@pytest.mark.slow
def test_files_are_written_for_each_video(holmes: Run, event_video: Path, sampler_folder: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(event_video, tmp_path / folder / "cam.mp4")
    shutil.copy(event_video, tmp_path / "door.mp4")
    out = tmp_path / "out"
    code, _, _ = holmes(
        tmp_path / "a", tmp_path / "b", tmp_path / "door.mp4", "--sampler", sampler_folder,
        "--srt", f"{out}/", "--plot", f"{out}/plot-{{name}}.png",
    )  # fmt: skip
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "cam-1.srt", "cam-2.srt", "door.srt", "plot-cam-1.png", "plot-cam-2.png", "plot-door.png",
    ]  # fmt: skip


def test_one_file_for_several_videos_is_refused(holmes: Run, event_video: Path, calm_video: Path) -> None:
    code, out, err = holmes(event_video, calm_video, "--sampler", "s", "--srt", "all.srt")
    assert (code, out) == (2, "")
    assert "--srt all.srt" in err
    assert "{name}" in err


def test_the_annotated_video_is_written(holmes: Run, event_video: Path, sampler_folder: Path, tmp_path: Path) -> None:
    code, _, _ = holmes(event_video, "--sampler", sampler_folder, "--annotate", tmp_path / "a.mp4")
    assert code == 0
    assert (tmp_path / "a.mp4").stat().st_size > 10_000


def test_a_chat_remembers_what_was_said(
    holmes: Run, event_video: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What moves?\nFast?\nHush\n/quit\nnever asked\n"))

    def say(clip: object, question: str) -> str | RecordError:
        return RecordError(Reason.EMPTY_TEXT, "nothing said") if question == "Hush" else f"Yes: {question}"

    scripted.say = staticmethod(say)
    code, out, err = holmes(event_video, "--model-path", "model", "--chat", "--ask", "Why?", "--question", "Odd?")
    assert code == 0
    assert out == "[0.0s~20.0s] Yes: Odd?\n> Why?\nYes: Why?\nYes: What moves?\nYes: Fast?\n"
    assert "nothing said" in err
    assert "uniformly" in err
    assert [(question, len(history)) for _, question, history in scripted.asked] == [
        ("Odd?", 0), ("Why?", 2), ("What moves?", 4), ("Fast?", 6), ("Hush", 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no VIDEO given"),
        (("v.mp4",), "neither a sampler nor a video model"),
        (("v.mp4", "--ask", "Why?", "--sampler", "s"), "--ask needs --model-path"),
        (("v.mp4", "--chat", "--json", "--model-path", "m"), "--chat and --json"),
        (("v.mp4", "--sampler", "s", "--sampling", "best"), "'best' is not one of"),
        (("v.mp4", "--sampler", "s", "--theta", "2"), "theta=2 lies outside"),
    ],
)
def test_calls_that_cannot_be_end_with_two(holmes: Run, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = holmes(*arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_nothing_to_look_at_is_the_datas_fault(holmes: Run, tmp_path: Path) -> None:
    assert holmes(tmp_path, "--sampler", "s")[0] == 1
    code, _, err = holmes(tmp_path / "gone.mp4", "--sampler", "s")
    assert code == 1
    assert "gone.mp4: no such file" in err
