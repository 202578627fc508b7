"""The sample world: what it writes, that it is true, and that it depends on nothing but its arguments."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import av
import numpy as np
import psutil
import pytest

from pipeline.errors import DataError, SetupError
from pipeline.quality.described import claims_of
from pipeline.sample import FPS, make_sample
from pipeline.sample.geometry import HEIGHT, WIDTH
from pipeline.sample.layout import SceneKind
from pipeline.sample.people import Item, Person
from pipeline.sample.plan import KINDS, VideoPlan, plan_world
from pipeline.sample.pose import Action, joints, pose_of
from pipeline.sample.render import Painter
from pipeline.sample.shot import Shot
from pipeline.sample.staging import stage
from pipeline.sample.tables import TABLES
from pipeline.sample.tracks import DriveTrack, Ease, PersonTrack

VIDEOS = 4
SEED = 3
SHORT = (14.0, 15.0)
REAL_EXPORT = Path(__file__).resolve().parents[5] / "shared/data/labelstudio/ui_json_all.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "world"
    make_sample(out, videos=VIDEOS, seed=SEED, workers=2, duration_s=SHORT)
    return out


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _plan(category: str | None, kind: SceneKind, index: int = 1, seed: int = 0) -> VideoPlan:
    return VideoPlan(
        index=index,
        video_id=f"v{index}",
        seed=seed,
        scene=f"scene{index:02d}",
        camera=f"cam{1 + index % 2}",
        kind=kind,
        split="train",
        categories=(category,) if category else (),
        starts_s=(4.0,) if category else (),
        num_frames=16 * FPS,
    )


def test_the_files_are_the_promised_ones(world: Path) -> None:
    videos = {f"videos/{row['video_id']}.mp4" for row in _rows(world / "videos.csv")}
    assert set(_hashes(world)) == {*TABLES, *videos}
    assert [path.name for path in world.rglob("*.json")] == ["label_studio.json"]
    headers = {name: (world / name).read_text().splitlines()[0] for name in TABLES if name.endswith(".csv")}
    assert headers == {
        "videos.csv": "video_id,file,num_frames,fps,label,split,scene,camera",
        "glance_annotations.csv": "video-id,glance",
        "ground_truth.csv": "video_id,start_frame,end_frame_exclusive,category",
        "captions.csv": "video_id,start_s,end_s,sentence",
        "scenes.csv": "video_id,start_s,end_s,sentence",
    }


def test_the_videos_decode_to_what_the_manifest_says(world: Path) -> None:
    for row in _rows(world / "videos.csv"):
        with av.open(str(world / row["file"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", WIDTH, HEIGHT)
            assert stream.average_rate == FPS
            times = [frame.pts * frame.time_base for frame in container.decode(stream)]
        assert len(times) == int(row["num_frames"])
        assert SHORT[0] <= len(times) / FPS <= SHORT[1]
        assert float(times[-1]) == pytest.approx((len(times) - 1) / FPS)


SCRIPT = """
import sys
from pathlib import Path
from pipeline.sample import make_sample
if __name__ == "__main__":
    make_sample(Path(sys.argv[1]), videos=40, seed=1, workers=2)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, tmp_path / "world"], env=environment)
    videos = tmp_path / "world" / "videos"
    deadline_s = monotonic() + 60
    while not (videos.is_dir() and list(videos.iterdir())) and monotonic() < deadline_s:
        sleep(0.1)
    workers = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert len(workers) >= 2
    assert not [worker for worker in alive if "spawn_main" in " ".join(worker.cmdline())]


@pytest.mark.slow
def test_the_bytes_depend_on_neither_workers_nor_what_lay_there_before(world: Path, tmp_path: Path) -> None:
    make_sample(tmp_path, videos=1, seed=SEED + 1, workers=1, duration_s=SHORT)
    (tmp_path / "notes.txt").write_text("mine")
    done: list[tuple[int, int]] = []
    summary = make_sample(
        tmp_path, videos=VIDEOS, seed=SEED, workers=1, duration_s=SHORT, on_progress=lambda n, of: done.append((n, of))
    )
    again = _hashes(tmp_path)
    assert again.pop("notes.txt")
    assert again == _hashes(world)
    assert done == [(n, VIDEOS) for n in range(VIDEOS + 1)]
    assert (summary.videos, summary.normal, summary.events) == (VIDEOS, 2, len(_rows(world / "ground_truth.csv")))


def test_half_of_the_videos_are_normal_and_have_no_events(world: Path) -> None:
    labels = {row["video_id"]: row["label"] for row in _rows(world / "videos.csv")}
    truth = _rows(world / "ground_truth.csv")
    assert sum(label == "Normal" for label in labels.values()) >= VIDEOS / 2
    assert {row["video_id"] for row in truth} == {video for video, label in labels.items() if label != "Normal"}
    assert all(row["category"] in KINDS for row in truth)


def test_each_event_has_one_click_inside_it_and_one_sentence(world: Path) -> None:
    truth = _rows(world / "ground_truth.csv")
    clicks = _rows(world / "glance_annotations.csv")
    captions = _rows(world / "captions.csv")
    lengths = {row["video_id"]: int(row["num_frames"]) for row in _rows(world / "videos.csv")}
    assert len(truth) == len(clicks) == len(captions)
    for event, click, caption in zip(truth, clicks, captions, strict=True):
        start, end = int(event["start_frame"]), int(event["end_frame_exclusive"])
        assert event["video_id"] == click["video-id"] == caption["video_id"]
        assert 0 <= start <= int(click["glance"]) < end <= lengths[event["video_id"]]
        assert (float(caption["start_s"]), float(caption["end_s"])) == (start / FPS, end / FPS)
        assert caption["sentence"][0].isupper()
        assert caption["sentence"].endswith(".")
        assert "{" not in caption["sentence"]


def test_a_sentence_tells_what_is_true_of_each_whole_video(world: Path) -> None:
    videos = _rows(world / "videos.csv")
    scenes = {row["video_id"]: row for row in _rows(world / "scenes.csv")}
    assert list(scenes) == [video["video_id"] for video in videos]
    for video in videos:
        scene = scenes[video["video_id"]]
        assert (scene["start_s"], float(scene["end_s"])) == ("0.0", int(video["num_frames"]) / FPS)
        said = claims_of(scene["sentence"])
        assert len([claim for claim in said if claim.kind == "place"]) == 1, scene["sentence"]
        assert len([claim for claim in said if claim.kind == "light"]) <= 1
        # Who is there at some time says neither how many there are at once nor what they do.
        assert not [claim for claim in said if claim.kind in ("number", "event")]
    # The people and things of an event are among those of its video, as far as their colours are told.
    for event in _rows(world / "captions.csv"):
        dressed = {claim for claim in claims_of(event["sentence"]) if claim.about in ("clothes", "vehicles")}
        told = {claim for claim in dressed if claim.kind == "colour"}
        assert told <= claims_of(scenes[event["video_id"]]["sentence"]), event


def test_the_export_holds_the_same_clicks_counted_from_one(world: Path) -> None:
    tasks: list[dict[str, Any]] = json.loads((world / "label_studio.json").read_text())
    exported = [
        (task["data"]["video_id"], region["value"]["ranges"], region["value"]["timelinelabels"])
        for task in tasks
        for annotation in task["annotations"]
        for region in annotation["result"]
    ]
    truth, clicks = _rows(world / "ground_truth.csv"), _rows(world / "glance_annotations.csv")
    expected = [
        (click["video-id"], [{"start": frame, "end": frame}], [event["category"]])
        for click, event in zip(clicks, truth, strict=True)
        for frame in [int(click["glance"]) + 1]
    ]
    assert exported == expected
    assert all(task["data"]["fps"] == str(FPS) for task in tasks)
    assert all((world / task["data"]["rel_path"]).is_file() for task in tasks)


@pytest.mark.skipif(not REAL_EXPORT.exists(), reason=f"no real Label Studio export at {REAL_EXPORT.name}")
def test_the_export_has_the_shape_of_a_real_one(world: Path) -> None:
    real: dict[str, Any] = json.loads(REAL_EXPORT.read_text())[0]
    made: dict[str, Any] = json.loads((world / "label_studio.json").read_text())[0]
    assert _shape(made) == _shape(real)


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(DataError, match="taken: a folder is needed"):
        make_sample(taken, videos=1, seed=0)
    with pytest.raises(DataError, match="taken"):
        make_sample(taken / "below", videos=1, seed=0)
    with pytest.raises(SetupError, match="videos=0"):
        make_sample(tmp_path, videos=0, seed=0)


@pytest.mark.parametrize("videos", [1, 2, 3, 4, 6, 7, 24, 60])
def test_plans_split_by_scene_and_hold_normal_and_abnormal_videos(videos: int) -> None:
    plans = plan_world(videos, seed=5)
    normal = sum(not plan.categories for plan in plans)
    assert len({plan.video_id for plan in plans}) == videos
    assert normal == videos - videos // 2
    splits: dict[str, list[VideoPlan]] = {"train": [], "test": []}
    for plan in plans:
        splits[plan.split].append(plan)
        assert all(plan.kind in KINDS[category] for category in plan.categories)
        assert 15 <= plan.duration_s <= 60
    scenes = {split: {plan.scene for plan in own} for split, own in splits.items()}
    assert not scenes["train"] & scenes["test"]
    if videos >= 4:
        assert all({bool(plan.categories) for plan in own} == {True, False} for own in splits.values())
    if videos >= 6:
        assert len(splits["test"]) == pytest.approx(videos / 3, abs=2)
    if videos >= 24:
        assert {category for plan in splits["train"] for category in plan.categories} == set(KINDS)


def test_plans_have_several_events_in_some_videos_with_gaps_between_them() -> None:
    plans = plan_world(200, seed=1)
    counts = Counter(len(plan.categories) for plan in plans if plan.categories)
    assert counts[1] > counts[2] > counts[3] > 0
    for plan in plans:
        spans = [*plan.starts_s, plan.duration_s + 2]
        assert all(later - start >= 11 for start, later in pairwise(spans))


def test_another_seed_is_another_world() -> None:
    kind = SceneKind.PLAZA
    first, second = (Painter(stage(_plan(None, kind, seed=seed)), 0, "CAM").frame(0) for seed in (0, 1))
    assert np.abs(first.astype(int) - second.astype(int)).mean() > 5


@pytest.mark.parametrize("category", sorted(KINDS))
def test_every_class_can_be_staged_in_all_its_places(category: str) -> None:
    for index, kind in enumerate(KINDS[category]):
        for seed in range(3):
            shot = stage(_plan(category, kind, index, seed))
            (event,) = shot.events
            assert event.category == category
            assert event.start_s == 4.0
            assert 3 <= event.end_s - event.start_s <= 10, (kind, seed)


@pytest.mark.parametrize("category", sorted(KINDS))
def test_an_event_is_seen_as_motion(category: str) -> None:
    shot = stage(_plan(category, KINDS[category][0]))
    painter = Painter(shot, 0, "CAM")
    (event,) = shot.events
    during = np.linspace(event.start_s, event.end_s, 4, endpoint=False)
    frames = [[painter.frame(int(FPS * time)), painter.frame(int(FPS * time) + 2)] for time in during]
    changed = [int((np.abs(a[20:HEIGHT].astype(int) - b[20:HEIGHT]) > 30).sum()) for a, b in frames]
    assert max(changed) > 40


def test_nobody_walks_through_anybody_in_ordinary_life() -> None:
    for kind in SceneKind:
        shot = stage(_plan(None, kind, index=2))
        assert _closest(shot) > 0.75, kind


def _closest(shot: Shot) -> float:
    times_s = np.arange(0, shot.duration_s, 0.25).tolist()
    apart = [p for p in shot.people if all(p.track.action(time) is not Action.STUMBLE for time in times_s)]
    gaps = [9.0]
    for time in np.arange(0, shot.duration_s, 1.0):
        places = [p for p in (person.place(float(time)) for person in apart) if p is not None]
        gaps += [float(np.hypot(a[0] - b[0], a[1] - b[1])) for i, a in enumerate(places) for b in places[:i]]
    return min(gaps)


def test_captions_name_the_clothes_that_are_drawn() -> None:
    for index in range(6):
        shot = stage(_plan("Fighting", SceneKind.PLAZA, index))
        cast: list[Person] = shot.people[:2]
        assert all(person.look.colour in shot.events[0].sentence for person in cast)


def test_bodies_stand_on_the_ground_in_every_pose() -> None:
    rng = Random(0)
    for action in Action:
        for _ in range(10):
            body = joints(pose_of(action, rng.uniform(0, 3), rng.uniform(0, 5)), 1.8)
            assert body.shape == (17, 3)
            assert body[:, 2].min() > 0
            assert np.isfinite(body).all()
            assert body[:, 2].max() < 3.6


def test_a_person_goes_where_its_track_says() -> None:
    track = PersonTrack(1.0, (0.0, 5.0)).go((2.6, 5.0)).act(Action.CHAT, 2.0, face=(2.6, 9.0)).go((2.6, 7.6))
    assert track.place(0.9) is None
    assert track.place(2.0) == pytest.approx((1.3, 5.0))
    assert track.place(4.0) == pytest.approx((2.6, 5.0))
    assert track.stance(4.9).heading == pytest.approx(np.pi / 2)  # type: ignore[union-attr]
    assert track.place(7.1) is None
    fled = track.cut(2.0).go((1.3, 9.2), Action.RUN)
    assert fled.place(2.5) == pytest.approx((1.3, 7.1))
    assert fled.place(4.0) is None


def test_a_vehicle_brakes_waits_and_stays_or_is_gone() -> None:
    for stays in (True, False):
        track = DriveTrack(0.0, (0.0, 8.0), 0.0, stays=stays).drive((10.0, 8.0), 2.0, Ease.BRAKE).wait(1.0)
        assert track.place(1.0) == pytest.approx((7.5, 8.0))
        assert track.place(2.5) == pytest.approx((10.0, 8.0))
        assert (track.place(9.0) is not None) is stays


def test_ordinary_life_looks_like_more_than_it_is_now_and_then() -> None:
    """Quarrels, bags that change hands, shoves, runners and rods, each in some of the videos and none an event."""
    looked: Counter[str] = Counter()
    plans = [plan for plan in plan_world(64, 5, (16.0, 24.0)) if not plan.categories]
    for plan in plans:
        people = stage(plan).people
        times_s = np.arange(0.0, plan.duration_s, 0.25).tolist()
        done = {person.track.action(t) for person in people for t in times_s}
        held = {item for person in people for item, _, _, end_s in person.carries if item is Item.ROD or end_s < 1e9}
        looked.update(str(action) for action in done & {Action.ARGUE, Action.HAND_OVER, Action.STUMBLE, Action.RUN})
        looked.update(str(item) for item in held)
    assert set(looked) >= {"argue", "hand_over", "stumble", "run", "rod", "bag"}
    assert max(looked.values()) < len(plans)


def test_a_bag_that_is_handed_over_is_carried_by_one_at_a_time() -> None:
    for plan in plan_world(24, 5, (16.0, 24.0)):
        people = stage(plan).people if not plan.categories else []
        givers = [p for p in people for item, _, _, end_s in p.carries if item is Item.BAG and end_s < 1e9]
        for giver in givers:
            _, colour, _, given_s = giver.carries[0]
            assert any(carried == (Item.BAG, colour, given_s, 1e9) for taker in people for carried in taker.carries)
