"""What a build will take, told before it is begun and while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dataset_fixtures import write_mp4
from typer.testing import CliRunner

from flows.cli import app
from flows.forecast.footage import HEADERS_READ, look_at
from flows.forecast.forecast import forecast
from flows.forecast.stated import load_stated, parameters_of
from flows.plan import PLAN
from pipeline.config import BuildConfig, parse_config
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import Usage
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.stages.base import fingerprint_of, to_rejected
from pipeline.workspace import Workspace

FPS = 10
ENDPOINT = {
    "backend": "openai", "model": "some/Llama-3-70B", "base_url": "http://127.0.0.1:9/v1",
    "tasks": ["judge_explain", "description"],
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Three abnormal videos of a minute, two of them clicked, and two normal ones of ten: features alone, no files."""
    rows = [("Abuse001_x264", 600), ("Abuse002_x264", 600), ("Abuse003_x264", 600)]
    rows += [("Normal_Videos001_x264", 6000), ("Normal_Videos002_x264", 6000)]
    lines = [f"{name},{frames},{FPS},{'Normal' if name[0] == 'N' else 'Abuse'}" for name, frames in rows]
    (tmp_path / "videos.csv").write_text("\n".join(["video_id,num_frames,fps,label", *lines]) + "\n")
    clicks = ["Abuse001_x264,100", "Abuse001_x264,300", "Abuse002_x264,200", "Abuse009_x264,5", "Abuse002_x264,700"]
    (tmp_path / "clicks.csv").write_text("\n".join(["video-id,glance", *clicks]) + "\n")
    return {
        "videos": [str(tmp_path / "videos.csv")],
        "glances": [str(tmp_path / "clicks.csv")],
        "workspace": str(tmp_path / "w"),
        "clips": {"normal_per_video": 2, "files": "reference"},
        "synthesize": ENDPOINT,
    }


def plan(config: dict[str, Any]) -> dict[str, Any]:
    return forecast(parse_config(config), Workspace(config["workspace"])).as_json()


def run(config: dict[str, Any], *arguments: str) -> str:
    path = Path(config["workspace"]).with_name("config.yaml")
    path.write_text(yaml.safe_dump(config))
    done = CliRunner().invoke(app, ["plan", "-c", str(path), *arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_counts_are_those_that_clicks_and_settings_give(config: dict[str, Any]) -> None:
    found = plan(config)
    assert found["videos"] == {
        "found": 5, "num_missing": 0, "missing": [], "remarks": [], "clicked_and_missing": ["Abuse009_x264"],
        "hours": pytest.approx(1380 / 3600, abs=1e-4),
        "lengths_by_bytes": 0, "gigabytes": 0.0,
    }  # fmt: skip
    assert found["clicks"] == {"count": 3, "videos": 2, "of_no_use": {"frame_out_of_range": 1}}
    # three windows of 10 s, and two segments as long in each normal video
    assert found["expected"] == {
        "clips": 7, "clip_hours": pytest.approx(70 / 3600, abs=1e-4), "clips_counted": False, "answers": 14,
        "events_and_videos": 0,
    }  # fmt: skip
    assert not (Path(config["workspace"]) / "tables").exists(), "nothing was made"


@pytest.mark.parametrize(("levels", "gap_s", "spans"), [
    (["clip", "event"], 5, 7), (["clip", "event"], 20, 6), (["clip", "event", "video"], 20, 10), (["video"], 5, 4),
])  # fmt: skip
def test_events_and_videos_are_asked_about_too(
    config: dict[str, Any], levels: list[str], gap_s: float, spans: int
) -> None:
    config["synthesize"] = ENDPOINT | {"levels": levels, "event_gap_s": gap_s}
    found = plan(config)
    of_clips = 14 if "clip" in levels else 0
    assert found["expected"]["events_and_videos"] == spans
    # two tasks of each clip, and of each span judgement and description alike
    assert found["expected"]["answers"] == of_clips + 2 * spans
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert (stages["levels"]["left"], stages["caption"]["left"]) == (spans, 7)
    assert stages["synthesize"]["asking"]["requests"] == round((of_clips + 2 * spans) * 1.1)
    assert f"hours, {spans} events and videos of them; {of_clips + 2 * spans} answers" in run(config)


def test_official_lists_decide_what_is_missing_what_gives_clips_and_which_clicks_count(
    config: dict[str, Any], tmp_path: Path
) -> None:
    lists = tmp_path / "annotations"
    lists.mkdir()
    train = ["Abuse001_x264", "Abuse002_x264", "Normal_Videos001_x264", "Abuse010_x264", "Abuse011_x264"]
    (lists / "ucf-crime.training.csv").write_text("\n".join(["video-id", *train]) + "\n")
    (lists / "ucf-crime.testing.csv").write_text("video-id\nAbuse003_x264\nNormal_Videos002_x264\nAbuse012_x264\n")
    # frame 600 of 600 is the known defect of the published clicks
    (tmp_path / "clicks.csv").write_text("video-id,glance\nAbuse001_x264,600\nAbuse002_x264,20\nAbuse003_x264,9\n")
    config |= {"sources": {"datasets": ["ucf-crime"], "annotations": [str(lists)]}}
    config["clips"] |= {"splits": ["train", "validation"]}
    found = plan(config)
    assert (found["videos"]["found"], found["videos"]["num_missing"], len(found["videos"]["missing"])) == (5, 3, 2)
    assert found["clicks"] == {"count": 2, "videos": 2, "of_no_use": {"of_test_videos": 1}}
    # two windows, and two segments of the normal training video
    assert found["expected"]["clips"] == 4
    assert "missing   3 named and not there: ucf-crime: 2 of the 5 train videos" in run(config)


def test_requests_tokens_and_cost_follow_from_them(config: dict[str, Any]) -> None:
    asked = {stage["stage"]: stage for stage in plan(config)["stages"]}["synthesize"]
    assert asked["asking"]["requests"] == round(14 * 1.1)
    assert asked["asking"]["basis"] == "stated"
    assert 300 < asked["asking"]["prompt_tokens"] / asked["asking"]["requests"] < 1500
    assert asked["asking"]["cost"] is None
    # without a price it is ours to run, and its size tells how long
    stated = load_stated().gpu
    tokens = (
        14 / asked["asking"]["requests"] * (asked["asking"]["prompt_tokens"] + asked["asking"]["completion_tokens"])
    )
    hours = tokens * 2 * 70e9 / (stated.tflops * 1e12 * stated.utilisation) / 3600
    assert asked["gpu_hours"] == pytest.approx(hours, rel=0.05, abs=1e-3)
    config["synthesize"] = {**ENDPOINT, "prices": {"some/Llama-3-70B": {"input": 1.0, "output": 10.0}}}
    priced = {stage["stage"]: stage for stage in plan(config)["stages"]}["synthesize"]
    of_tokens = (priced["asking"]["prompt_tokens"] + 10 * priced["asking"]["completion_tokens"]) / 1e6
    assert priced["asking"]["cost"] == pytest.approx(of_tokens)
    assert priced["gpu_hours"] == 0


def test_what_is_set_comes_before_what_is_stated(config: dict[str, Any]) -> None:
    config["plan"] = {"machines": 2, "seconds_per_unit": {"caption": 8}}
    caption = {stage["stage"]: stage for stage in plan(config)["stages"]}["caption"]
    assert (caption["seconds"], caption["basis"]) == (7 * 8 / 2, "set")


def test_a_model_of_unknown_size_has_no_time_and_says_what_would_tell_it(config: dict[str, Any]) -> None:
    config |= {"caption": {"backend": "hf", "model": "someone/video-model"}, "plan": {"gpus": 2}}
    told = run(config)
    assert "without caption, whose model tells no size: set plan.seconds_per_unit={caption: SECONDS}" in told
    config["caption"] = {"backend": "hf", "model": "LanguageBind/Video-LLaVA-7B-hf"}
    told = run(config)
    assert "without caption" not in told
    assert "GPU " in told
    assert "no price: set plan.gpu_price_per_hour" in told
    config["plan"] = {"gpus": 0, "gpu_price_per_hour": 1e6}
    told = run(config)
    assert "none at hand: plan.gpus=N counts with N" in told
    assert "cost " in told


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("LanguageBind/Video-LLaVA-7B-hf", 7e9),
        ("meta-llama/Meta-Llama-3-70B-Instruct", 70e9),
        ("Qwen/Qwen3-4B-Instruct-2507", 4e9),
        ("Qwen/Qwen3-VL-30B-A3B", 30e9),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", 500e6),
        ("Qwen2.5-Coder-1.5B", 1.5e9),
        ("gpt-4o-mini", None),
        ("holmes-tiny", None),
    ],
)
def test_a_models_name_tells_its_size(model: str, parameters: float | None) -> None:
    assert parameters_of(model) == parameters


def test_people_read_what_is_missing_and_which_price(config: dict[str, Any]) -> None:
    told = run(config)
    assert "videos    5 found, 0.38 hours" in told
    assert "missing   1 videos with clicks that are not there: Abuse009_x264" in told
    assert "clicks    3 on 2 videos" in told
    assert "no use    clicks and annotations: 1 frame_out_of_range" in told
    assert "clips     7 expected, 0.02 hours; 14 answers" in told
    assert "synthesize: the price of some/Llama-3-70B is not known: set synthesize.prices={some/Llama-3-70B: " in told
    config["synthesize"] = {
        **ENDPOINT, "prices": {"some/Llama-3-70B": {"input": 1000.0, "output": 1000.0}}, "max_cost": 1.0,
    }  # fmt: skip
    assert "is more than synthesize.max_cost=1, what one run may cost" in run(config)
    assert json.loads(run(config, "--json"))["expected"]["answers"] == 14


def test_no_video_is_an_error_that_names_what_is_missing(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text("file\ngone.mp4\n")
    with pytest.raises(DataError, match=r"no video is there\n.*gone.mp4: no such file"):
        plan(config)


def test_lengths_come_from_headers_and_of_further_files_from_their_bytes(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_mp4(tmp_path / "footage" / f"cam{number}.mp4", num_frames=40)
    settings = BuildConfig.model_validate(config | {"videos": [str(tmp_path / "footage")], "glances": []})
    found = look_at(settings, Workspace(settings.workspace))
    assert [item.video.duration_s for item in found.items] == [4.0] * 4
    assert HEADERS_READ >= 4
    assert not found.guessed
    monkeypatch.setattr("flows.forecast.footage.HEADERS_READ", 2)
    (tmp_path / "clicks.csv").write_text("video-id,glance\ncam1,900\ncam3,10\n")
    settings = settings.model_copy(update={"glances": [str(tmp_path / "clicks.csv")]})
    found = look_at(settings, Workspace(settings.workspace))
    assert len(found.guessed) == 2
    assert [item.video.duration_s for item in found.items] == pytest.approx([4.0] * 4, rel=0.3)
    # a video of guessed length is as long as its clicks need
    assert found.clicks == 2


def under(config: dict[str, Any], stage: str) -> str:
    """Return the fingerprint of a stage under these settings."""
    settings = parse_config(config)
    step = next(step for step in PLAN if step.name == stage)
    return fingerprint_of(step.make_stage(Workspace(settings.workspace), settings))


def video(name: str) -> Video:
    return Video(
        video_id=name, path="", sha256=name, fps=FPS, num_frames=600, duration_s=60.0, width=320, height=240, codec="",
        label="Abuse", split=None, source="videos.csv:2",
    )  # fmt: skip


def clip(name: str, video_id: str) -> EventClip:
    return EventClip(
        clip_id=name, video_id=video_id, start_s=0.0, end_s=10.0, start_frame=0, end_frame=100, glance_time_s=5.0,
        label="Abuse", anomaly_score=None, method="window",
    )  # fmt: skip


def test_of_a_build_that_runs_the_rest_is_told_by_what_it_has_measured(config: dict[str, Any]) -> None:
    space = Workspace(config["workspace"])
    names = ["Abuse001_x264", "Abuse002_x264", "Abuse003_x264", "Normal_Videos001_x264", "Normal_Videos002_x264"]
    space.videos.commit(names, [(name, video(name)) for name in names], [], under(config, "ingest"), seconds=10.0)
    clips = [clip(f"c{number}", names[number % 5]) for number in range(6)]
    space.clips.commit(names, [(one.video_id, one) for one in clips], [], under(config, "clips"), seconds=20.0)
    captions = [Caption(clip_id=f"c{number}", text="A man.", captioner="m", prompt_hash=None) for number in range(2)]
    rows = list(zip(["c0", "c1"], captions, strict=True))
    space.captions.commit(["c0", "c1"], rows, [], under(config, "caption"), seconds=30.0)
    stages = {stage["stage"]: stage for stage in plan(config)["stages"]}
    assert stages["ingest"]["left"] == stages["clips"]["left"] == 0
    assert (stages["caption"]["left"], stages["caption"]["seconds"], stages["caption"]["basis"]) == (
        4,
        60.0,
        "measured",
    )
    assert stages["synthesize"]["left"] == 12
    assert stages["filter"]["expected"] == 5
    fault = to_rejected("synthesize", "p0", RecordError(Reason.BAD_RESPONSE, "no JSON"))
    space.pairs.commit(["p0", "p1", "p2"], [], [("p0", fault)], under(config, "synthesize"), seconds=6.0)
    with Journal(space.journal_folder("synthesize")) as journal:
        for number in range(4):
            journal.append(f"{number:032x}", ENDPOINT["model"], "{}", Usage(prompt_tokens=600, completion_tokens=90))
        # a build holds the journal open, and asks on
        asking = {stage["stage"]: stage for stage in plan(config)["stages"]}["synthesize"]
    assert (asking["left"], asking["seconds"]) == (9, 18.0)
    assert asking["asking"]["basis"] == "measured"
    # four responses for three answers
    assert asking["asking"]["requests"] == 12
    assert (asking["asking"]["prompt_tokens"], asking["asking"]["completion_tokens"]) == (7200, 1080)
    # another temperature asks everything anew, and of what follows nothing stands
    anew = {stage["stage"]: stage for stage in plan(config | {"synthesize": ENDPOINT | {"temperature": 0.5}})["stages"]}
    assert (anew["caption"]["left"], anew["synthesize"]["left"]) == (4, 12)


@pytest.mark.slow
def test_a_probe_tells_how_long_captions_take(
    config: dict[str, Any], video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caption = {
        "backend": "hf", "model": video_model("qwen2_5_vl"), "device": "cpu", "num_frames": 4, "max_side": 64,
        "max_new_tokens": 4,
    }  # fmt: skip
    config = {**config, "caption": caption, "synthesize": {"backend": "template"}}
    assert "set plan.seconds_per_unit={caption: SECONDS}, or --probe" in run(config)
    found = json.loads(run(config, "--probe", "--json"))
    [stage] = [stage for stage in found["stages"] if stage["stage"] == "caption"]
    clips_per_s = found["captioner"]["clips_per_s"]
    assert clips_per_s > 0
    assert (stage["basis"], stage["seconds"]) == ("probed", pytest.approx(7 / clips_per_s, abs=0.06))
    told = run(config, "--probe")
    assert " GiB needed at caption.batch_size=16, " in told
    assert "free on cpu; float32, sdpa" in told
    set_by_hand = json.loads(run(config, "--probe", "--json", "--set", "plan.seconds_per_unit={caption: 2}"))
    [stage] = [stage for stage in set_by_hand["stages"] if stage["stage"] == "caption"]
    assert (stage["basis"], stage["seconds"]) == ("set", 14.0)
    monkeypatch.setattr("pipeline.models.hf.outlook._MOST_ON_CPU", 10)
    assert "not tried: " in run(config, "--probe")
    with pytest.raises(SetupError, match=r"--probe: caption\.backend=motion"):
        run({**config, "caption": {"backend": "motion"}}, "--probe")
