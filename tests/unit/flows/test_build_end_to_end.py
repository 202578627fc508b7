"""The whole plan on a few small videos of moving blocks: resume rules, kills, verdicts, the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from datasets import load_dataset

from flows.plan import build, status
from pipeline.config import BuildConfig, parse_config
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import DataError
from pipeline.records import ABNORMAL, NORMAL
from pipeline.workspace import Workspace

HOLMES = [sys.executable, "-m", "flows.cli"]
REPOSITORY = Path(__file__).resolve().parents[3]
TABLES = ("videos", "glances", "clips", "captions", "pairs", "verdicts")


def film(path: Path, seed: int) -> None:
    """Write 60 frames at 10 fps of blocks that cross a noisy scene, each film its own way."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(60, 120, (96, 128, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(60):
            picture = scene + rng.integers(-4, 5, scene.shape)
            for block in range(1 + seed % 3):
                x, y = (4 + (seed + 2 * block) * index) % 112, 12 + 24 * block
                picture[y : y + 16, x : x + 12] = 230 - 60 * block
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), "rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos in the shape of the sample world: three abnormal, one of them with two events, three normal."""
    out = tmp_path_factory.mktemp("world")
    (out / "videos").mkdir()
    labels = ["Fighting", NORMAL, "Explosion", NORMAL, "Robbery", NORMAL]
    for number in range(len(labels)):
        film(out / "videos" / f"cam_{number}.mp4", number)
    rows = [
        f"cam_{number},videos/cam_{number}.mp4,{label},{'test' if number > 3 else 'train'}"
        for number, label in enumerate(labels)
    ]
    (out / "videos.csv").write_text("\n".join(["video_id,file,label,split", *rows]) + "\n")
    (out / "glances.csv").write_text("video-id,glance\ncam_0,10\ncam_0,45\ncam_2,0\ncam_4,59\n")
    sentences = [
        "cam_0,0.2,2.0,Two men fight.",
        "cam_0,3.5,5.0,A man falls.",
        "cam_2,0,1,A car explodes.",
        "cam_4,5,6,A man takes a bag.",
    ]
    (out / "captions.csv").write_text("\n".join(["video_id,start_s,end_s,sentence", *sentences]) + "\n")
    return out


def config_of(world: Path, workspace: Path, **settings: object) -> BuildConfig:
    values = {
        "videos": [str(world / "videos.csv")],
        "glances": [str(world / "glances.csv")],
        "workspace": str(workspace),
        "shard_rows": 2,
        "clips": {"window_s": 3.0},
        **settings,
    }
    return parse_config(values)


@pytest.fixture(scope="module")
def built(world: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """An undisturbed build of the world."""
    config = config_of(world, tmp_path_factory.mktemp("built") / "w")
    build(config)
    return config


def rows_of(config: BuildConfig) -> dict[str, list[object]]:
    workspace = Workspace(config.workspace)
    return {name: list(getattr(workspace, name).records()) for name in TABLES}


def copy_of(built: BuildConfig, folder: Path) -> BuildConfig:
    shutil.copytree(built.workspace, folder / "w")
    return built.model_copy(update={"workspace": str(folder / "w")})


def made(config: BuildConfig) -> dict[str, int]:
    return {report.stage: report.made for report in build(config).stages}


def holmes(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [*HOLMES, *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment
    )


@pytest.fixture
def here(holmes_here: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., tuple[int, str]]:
    """Call the command in this process; return exit code and stderr."""

    def run(*arguments: str) -> tuple[int, str]:
        done = holmes_here(*arguments, cwd=REPOSITORY)
        return done.returncode, done.stderr

    return run


@pytest.mark.slow
def test_clips_from_a_sampler_that_the_build_trains(built: BuildConfig, tmp_path: Path) -> None:
    config = copy_of(built, tmp_path)
    trained = BuildConfig.model_validate(
        config.model_dump()
        | {
            "clips": config.clips.model_dump() | {"method": "sampler"},
            "features": {"stride_frames": 8},
            "sampler": {"recipe": {"steps": 3}, "folds": 2, "device": "cpu"},
        }
    )
    first = made(trained)
    assert first["ingest"] == first["glances"] == 0
    assert first["features"] == first["score"] == 6
    workspace = Workspace(trained.workspace)
    assert {row.method for row in workspace.clips.records() if row.glance_time_s is not None} == {"sampler"}
    assert all(row.anomaly_score is not None for row in workspace.clips.records())
    assert validate_dataset(Path(trained.workspace)) == []
    assert set(made(trained).values()) == {0}
    assert made(config)["clips"] == 6  # and back to windows, scores or not


def test_dataset_loads_and_is_valid(built: BuildConfig) -> None:
    folder = Path(built.workspace) / "dataset"
    assert validate_dataset(folder) == []
    dataset = load_dataset(str(folder))
    rows = [row for split in dataset.values() for row in split]
    assert rows
    for row in rows:
        assert row["is_anomaly"] == (row["label"] != NORMAL)
        if row["task"] == "judge_explain":
            assert row["answer"].startswith("Yes" if row["is_anomaly"] else "No")
    labels = {row["label"] for row in rows}
    assert NORMAL in labels
    assert len(labels) > 1


def test_every_glance_has_its_clip_around_it(built: BuildConfig) -> None:
    workspace = Workspace(built.workspace)
    clips = {(clip.video_id, clip.glance_time_s): clip for clip in workspace.clips.records()}
    glances = list(workspace.glances.records())
    assert glances
    for glance in glances:
        clip = clips[glance.video_id, glance.time_s]
        assert clip.start_frame <= glance.frame_index < clip.end_frame
        assert (Path(built.workspace) / "clips" / f"{clip.clip_id}.mp4").is_file()


def test_second_run_does_no_work(built: BuildConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted((Path(built.workspace) / "dataset").rglob("*"))}
    assert set(made(built).values()) == {0}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {stage.to_do for stage in status(Workspace(built.workspace), built)} == {0}


def test_new_video_makes_only_its_own_rows(built: BuildConfig, world: Path, tmp_path: Path) -> None:
    config = copy_of(built, tmp_path)
    before = rows_of(config)
    manifest = tmp_path / "more.jsonl"
    video = next((world / "videos").glob("*.mp4"))
    (tmp_path / "more.mp4").write_bytes(video.read_bytes() + b"\0\0\0\x08free")
    manifest.write_text(json.dumps({"video_id": "more", "file": "more.mp4", "label": NORMAL}) + "\n")
    counts = made(config.model_copy(update={"videos": [*config.videos, str(manifest)]}))
    after = rows_of(config)
    new_clips = len(after["clips"]) - len(before["clips"])
    assert new_clips > 0
    assert (counts["ingest"], counts["clips"], counts["caption"], counts["synthesize"], counts["filter"]) == (
        1, 1, new_clips, 2 * new_clips, 1,
    )  # fmt: skip
    for name, rows in before.items():
        assert [row for row in after[name] if row in rows] == rows


def test_changed_wording_remakes_synthesis_and_what_follows(
    built: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy_of(built, tmp_path)
    before = rows_of(config)
    counts = made(config.model_copy(update={"synthesize": config.synthesize.model_copy(update={"seed": 1})}))
    assert (counts["ingest"], counts["glances"], counts["clips"], counts["caption"]) == (0, 0, 0, 0)
    assert counts["synthesize"] == len(before["pairs"])
    assert counts["filter"] > 0
    assert counts["export"] > 0
    after = rows_of(config)
    assert after["captions"] == before["captions"]
    assert after["pairs"] != before["pairs"]


def test_lost_clip_file_is_cut_again(built: BuildConfig, tmp_path: Path) -> None:
    config = copy_of(built, tmp_path)
    clip = next(iter(Workspace(config.workspace).clips.records()))
    path = Path(config.workspace) / "clips" / f"{clip.clip_id}.mp4"
    before = path.read_bytes()
    path.unlink()
    counts = made(config)
    assert counts["clips"] == 1
    assert counts["caption"] == 0
    assert path.read_bytes() == before


def test_files_that_belong_to_no_clip_are_removed(built: BuildConfig, tmp_path: Path) -> None:
    config = copy_of(built, tmp_path)
    counts = made(config.model_copy(update={"clips": config.clips.model_copy(update={"window_s": 2.0})}))
    assert counts["clips"] > 0
    assert counts["ingest"] == 0
    workspace = Workspace(config.workspace)
    files = {path.stem for path in (Path(config.workspace) / "clips").iterdir()}
    assert files == {clip.clip_id for clip in workspace.clips.records()}


@pytest.mark.slow
@pytest.mark.parametrize("committed_share", [0.1, 0.35, 0.6, 0.85])
def test_kill_9_anywhere_then_rerun_equals_the_undisturbed_build(
    built: BuildConfig, world: Path, tmp_path: Path, committed_share: float
) -> None:
    """Kill a build once a given share of the shards of the undisturbed build is committed, then run it again."""
    config = config_of(world, tmp_path / "w")
    file = tmp_path / "config.json"
    file.write_text(config.model_dump_json())
    tables = Path(config.workspace) / "tables"
    wanted = committed_share * len(list((Path(built.workspace) / "tables").rglob("_units/*.parquet")))
    child = subprocess.Popen(
        [*HOLMES, "build", "-c", str(file)], cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(tables.rglob("_units/*.parquet"))) < wanted and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    build(config)
    assert rows_of(config) == rows_of(built)
    ours, theirs = Path(config.workspace) / "dataset", Path(built.workspace) / "dataset"
    for theirs_file in sorted(theirs.rglob("*.parquet")):
        assert (ours / theirs_file.relative_to(theirs)).read_bytes() == theirs_file.read_bytes(), theirs_file
    clips = Path(built.workspace) / "clips"
    assert {p.name: p.read_bytes() for p in (Path(config.workspace) / "clips").iterdir()} == {
        p.name: p.read_bytes() for p in clips.iterdir()
    }


@pytest.mark.slow
def test_reference_clips_write_no_file(world: Path, tmp_path: Path, built: BuildConfig) -> None:
    config = config_of(world, tmp_path / "w", clips={"files": "reference", "window_s": 3.0})
    build(config)
    assert not (tmp_path / "w/clips").exists()
    workspace = Workspace(config.workspace)
    spans = [(clip.video_id, clip.start_frame, clip.end_frame) for clip in workspace.clips.records()]
    assert spans == [(c.video_id, c.start_frame, c.end_frame) for c in Workspace(built.workspace).clips.records()]
    assert validate_dataset(tmp_path / "w/dataset") == []


def test_human_captions_reach_the_answers(world: Path, tmp_path: Path) -> None:
    config = config_of(world, tmp_path / "w", caption={"backend": "human", "files": [str(world / "captions.csv")]})
    build(config)
    workspace = Workspace(config.workspace)
    captions = {caption.clip_id: caption for caption in workspace.captions.records()}
    abnormal = [clip for clip in workspace.clips.records() if clip.label != NORMAL]
    assert abnormal
    assert {clip.clip_id for clip in abnormal} <= captions.keys()
    assert {caption.captioner for caption in captions.values()} == {"human"}
    reasons = {rejected.reason for rejected in workspace.captions.rejected()}
    assert reasons <= {"no_caption"}


def test_human_verdicts_edit_and_reject(built: BuildConfig, tmp_path: Path) -> None:
    config = copy_of(built, tmp_path)
    pairs = [pair for pair in Workspace(config.workspace).pairs.records() if pair.task == "judge_explain"]
    kept = {verdict.pair_id for verdict in Workspace(config.workspace).verdicts.records()}
    first, second = [pair for pair in pairs if pair.pair_id in kept][:2]
    head = "Yes" if first.label != NORMAL else "No"
    edited = f"{head}, this is what a person wrote after looking at the clip with care."
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text(
        "pair_id,decision,edited_answer,reviewer,reviewed_at\n"
        f'{first.pair_id},edit,"{edited}",ada,2026-01-02T03:04:05Z\n'
        f"{second.pair_id},reject,,ada,2026-01-02T03:04:06Z\n"
        "nothing,accept,,ada,\n"
        f"{second.pair_id},maybe,,ada,\n"
    )
    config = config.model_copy(update={"filter": config.filter.model_copy(update={"verdicts": [str(verdicts)]})})
    counts = made(config)
    assert counts["synthesize"] == 0
    rows = {row["id"]: row for split in load_dataset(str(tmp_path / "w/dataset")).values() for row in split}
    assert rows[first.pair_id]["answer"] == edited
    assert rows[first.pair_id]["messages"][1]["content"][0]["text"] == edited
    assert second.pair_id not in rows
    reasons = {rejected.record_id: rejected.reason for rejected in Workspace(config.workspace).verdicts.rejected()}
    assert reasons[second.pair_id] == "reviewer_rejected"
    assert reasons[f"{verdicts}: row 3"] == "missing_pair"
    assert reasons[f"{verdicts}: row 4"] == "malformed_row"


def test_nothing_readable_is_a_data_error_with_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/zero.mp4").touch()
    with pytest.raises(DataError, match=r"no readable video\n.*zero\.mp4"):
        build(parse_config({"videos": [str(tmp_path / "in")], "workspace": str(tmp_path / "w")}))


def test_command_builds_validates_and_tells_status(
    built: BuildConfig, holmes_here: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    config = copy_of(built, tmp_path)
    file = tmp_path / "config.json"
    file.write_text(config.model_dump_json())
    done = holmes_here("build", "-c", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(Path(config.workspace) / "dataset") in done.stdout
    assert holmes_here("validate", config.workspace, cwd=tmp_path).returncode == 0
    assert holmes_here("validate", str(Path(config.workspace) / "dataset"), cwd=tmp_path).returncode == 0
    shown = holmes_here("status", config.workspace, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("nothing") == 9


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "-c", "nowhere.yaml"], 2, "nowhere.yaml: no such config file"),
        (["build", "--set", "videos=[x]", "--set", "clip.window_s=3"], 2, "the nearest valid key is clips"),
        (["build", "--set", "videos=[x]", "--set", "glances=[nowhere.csv]"], 2, "glances: nowhere.csv: no such file"),
        (["build", "--set", "videos=[nowhere]", "--workspace", "{tmp}/w"], 1, "nowhere: no such file"),
        (["build", "--set", "videos=[x]", "--set", "synthesize.backend=openai"], 2, "synthesize.model"),
        (["validate", "nowhere"], 2, "nowhere: no such folder"),
        (["status", "{tmp}"], 2, "no run.json"),
        (["import", "auto", "nowhere.csv", "-o", "{tmp}/o.parquet"], 1, "nowhere.csv"),
        (["import", "magic", "pyproject.toml", "-o", "{tmp}/o.parquet"], 2, "magic"),
        (["export", "{tmp}", "--format", "magic", "-o", "{tmp}/o"], 2, "magic"),
    ],
)
def test_faults_end_in_one_message_and_the_right_code(
    here: Callable[..., tuple[int, str]], arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    ended, said = here(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert (ended, "Traceback" in said) == (code, False), said
    assert message in said


def test_a_fault_ends_the_process_with_its_code() -> None:
    done = holmes("build", "-c", "nowhere.yaml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "nowhere.yaml: no such config file" in done.stderr


def test_a_folder_of_videos_and_a_list_of_clicks_are_enough(tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    for number in range(3):
        film(tmp_path / "footage" / f"cam_{number}.mp4", number)
    clicks = tmp_path / "clicks.csv"
    clicks.write_text("video-id,glance\ncam_0,10\ncam_1,45\n")
    config = parse_config(
        {
            "videos": [str(tmp_path / "footage")],
            "glances": [str(clicks)],
            "workspace": str(tmp_path / "w"),
            "clips": {"window_s": 3.0},
        }
    )
    build(config)
    workspace = Workspace(str(tmp_path / "w"))
    assert [glance.category for glance in workspace.glances.records()] == [ABNORMAL, ABNORMAL]
    rows = load_dataset(str(tmp_path / "w" / "dataset"))
    kept = [row for split in rows.values() for row in split]
    assert {row["source_video"].rsplit("_", 1)[0] for row in kept} == {"cam_0", "cam_1"}
    assert {(row["label"], row["is_anomaly"]) for row in kept} == {(ABNORMAL, True)}
    judged = [row["answer"] for row in kept if row["task"] == "judge_explain"]
    assert len(judged) == 2
    assert all(answer.startswith("Yes, ") and "an event out of the ordinary" in answer for answer in judged)
    assert not any("of the kind" in row["answer"] for row in kept)
    assert validate_dataset(tmp_path / "w" / "dataset") == []
    [(left_out, why)] = [(one.record_id, one.detail) for one in workspace.clips.rejected()]
    assert left_out.startswith("cam_2")
    assert "ingest.unlabelled=normal" in why


@pytest.mark.slow
def test_official_test_videos_are_scored_but_never_learnt_from(world: Path, tmp_path: Path) -> None:
    """UCF-Crime in small, as it unpacks, under a configuration whose fractions say something else."""
    names = ["Abuse001_x264", "Normal_Videos001_x264", "Abuse002_x264", "Normal_Videos002_x264", "Abuse028_x264",
             "Normal_Videos_003_x264"]  # fmt: skip
    for number, name in enumerate(names):
        folders = ["Testing_Normal_Videos_Anomaly", "Normal_Videos_event"] if name[-9:-5] == "_003" else [name[:5]]
        for folder in folders:
            (tmp_path / "UCF_Crimes" / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(world / "videos" / f"cam_{number}.mp4", tmp_path / "UCF_Crimes" / folder / f"{name}.mp4")
    (tmp_path / "ucf-crime.training.csv").write_text("\n".join(["video-id", *names[:4]]))
    (tmp_path / "ucf-crime.testing.csv").write_text("\n".join(["video-id", *names[4:], "Abuse030_x264"]))
    (tmp_path / "ucf_glance_annotations.csv").write_text(
        "video-id,glance\nAbuse001_x264,10\nAbuse002_x264,0\nAbuse028_x264,5\n"
    )
    config = parse_config(
        {
            "videos": [str(tmp_path / "UCF_Crimes")],
            "sources": {"datasets": ["ucf-crime"]},
            "workspace": str(tmp_path / "w"),
            "clips": {"window_s": 3.0, "splits": ["train", "validation"]},
            "export": {"validation_fraction": 0.5, "test_fraction": 0.0},
        }
    )
    build(config)
    workspace = Workspace(config.workspace)
    splits = {row.video_id: row.split for row in workspace.splits.records()}
    assert [splits[name] for name in names[4:]] == ["test", "test"]
    assert all(splits[name] != "test" for name in names[:4])
    assert {clip.video_id for clip in workspace.clips.records()} == set(names[:4])
    assert sorted(rejected.reason for rejected in workspace.videos.rejected()) == ["file_missing", "further_copy"]
    assert {report.made for report in build(config).stages} == {0}
