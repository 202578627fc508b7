"""Films of uneven rate, turned, cut by an edit list or late: all stages mean the frame that was clicked."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from detection_fixtures import sampler_folder
from infer_videos import write_video
from numpy.typing import NDArray

from annotation.sentences import read_sentences
from flows.plan import run_step
from pipeline.config import parse_config
from pipeline.errors import DataError
from pipeline.infer.detector import Detector
from pipeline.infer.settings import DetectSettings
from pipeline.video.timeline import read_timeline
from pipeline.workspace import Workspace

__all__ = ["sampler_folder"]

CLICKED = 41
HIDDEN_FRAMES = 17
"""What the film with an edit list hides at its start."""

LATE_S = {"late.mp4": 0.6, "fragmented.mp4": 0.08, "uneven.mp4": 0.043, "uneven.mkv": 0.043}
"""When the first frame of a film comes; a fragmented file has no edit list that hides the delay of its encoder."""

PLAYER_RATE = 500
"""Frames a second of Label Studio's player, by which every frame of the films can be reached."""

TURNS = {"rotated.mp4": 3, "upside_down.mp4": 2}
"""Quarter turns that bring a picture back to how it was drawn."""

FILMS = ["uneven.mp4", "uneven.mkv", "edit_list.mp4", "late.mp4", "fragmented.mp4", "open_gop.ts", *TURNS]


def ingested(path: Path, folder: Path, clicks: Path) -> Workspace:
    """Ingest a film and its clicks, and cut the clips."""
    config = parse_config(
        {
            "videos": [str(path)],
            "glances": [str(clicks)],
            "workspace": str(folder / "w"),
            "clips": {"window_s": 1.0, "min_s": 0.2},
        }
    )
    workspace = Workspace(config.workspace)
    for step in ("ingest", "glances", "clips"):
        run_step(step, workspace, config)
    return workspace


def clicks_of(path: Path, way: str, folder: Path) -> Path:
    """Click the frame `CLICKED`: by its number in a table, or as Label Studio's player numbers what it shows then."""
    if way == "csv":
        clicks = folder / "clicks.csv"
        clicks.write_text(f"video-id,glance\n{path.name},{CLICKED}\n")
        return clicks
    timeline = read_timeline(path)
    # as measured in Chromium: the player's clock is that of the file, and the first frame may come late
    with av.open(str(path)) as container:
        late_s = 0.0 if path.suffix == ".ts" else next(container.decode(video=0)).time
    assert late_s == pytest.approx(LATE_S.get(path.name, 0.0))
    frame = 1 + int(np.ceil((late_s + timeline.time_of(CLICKED)) * PLAYER_RATE))
    region = {"value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]}}
    task = {"data": {"video": path.name, "fps": PLAYER_RATE}, "annotations": [{"completed_by": 1, "result": [region]}]}
    clicks = folder / "clicks.json"
    clicks.write_text(json.dumps([task]))
    return clicks


@pytest.mark.parametrize("way", ["csv", "label studio"])
@pytest.mark.parametrize("name", FILMS)
def test_glance_and_clip_are_about_the_clicked_frame(
    name: str, way: str, film: Callable[[str], Path], tmp_path: Path, number_of: Callable[[NDArray[np.uint8]], int]
) -> None:
    path = film(name)
    timeline = read_timeline(path)
    workspace = ingested(path, tmp_path, clicks_of(path, way, tmp_path))
    [glance], [clip] = list(workspace.glances.records()), list(workspace.clips.records())
    assert glance.frame_index == CLICKED
    assert glance.time_s == clip.glance_time_s == pytest.approx(timeline.time_of(CLICKED))
    assert clip.start_frame < CLICKED < clip.end_frame
    assert clip.start_s == pytest.approx(timeline.time_of(clip.start_frame))
    assert 0.5 <= clip.end_s - clip.start_s <= 1.1
    with av.open(workspace.storage.path(workspace.clip_file(clip.clip_id))) as shown:
        pictures = [frame.to_ndarray(format="rgb24") for frame in shown.decode(video=0)]
    numbers = [number_of(np.rot90(picture, TURNS.get(name, 0))) for picture in pictures]
    hidden = HIDDEN_FRAMES if name == "edit_list.mp4" else 0
    assert numbers == list(range(clip.start_frame + hidden, clip.end_frame + hidden))


def test_sentences_in_frames_are_about_the_times_of_these_frames(film: Callable[[str], Path], tmp_path: Path) -> None:
    path = film("uneven.mp4")
    timeline = read_timeline(path)
    workspace = ingested(path, tmp_path, clicks_of(path, "csv", tmp_path))
    said = tmp_path / "said.csv"
    said.write_text("video_id,start_frame,end_frame,sentence\nuneven,20,30,A man runs.\nuneven,90,100,He rests.\n")
    [sentences] = read_sentences([str(said)], workspace.videos.records()).values()
    assert [(one.start_s, one.end_s) for one in sentences] == [
        (pytest.approx(timeline.time_of(20)), pytest.approx(timeline.time_of(30))),
        (pytest.approx(timeline.time_of(90)), pytest.approx(timeline.duration_s)),
    ]


@pytest.mark.parametrize("rotation", [0, 90])
def test_detection_tells_the_times_at_which_its_frames_are_shown(
    tmp_path: Path, sampler_folder: Path, rotation: int
) -> None:
    even = write_video(tmp_path / "even.mp4")  # an event in [8 s, 12 s) of 20 s
    path = tmp_path / "uneven.mp4"
    with av.open(str(even)) as given, av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=16, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 16)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, frame in enumerate(given.decode(video=0)):
            # from 6 s on three times as slow: the event lies in [12 s, 24 s)
            frame.pts, frame.time_base = number + 2 * max(0, number - 96), Fraction(1, 16)
            frame.pict_type = 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    [span] = Detector(DetectSettings(sampler=str(sampler_folder))).detect(path).spans
    assert (span.start_s, span.end_s) == (pytest.approx(12, abs=2.0), pytest.approx(24, abs=2.0))


def test_a_video_that_lost_too_much_is_left_out_with_the_setting(film: Callable[[str], Path], tmp_path: Path) -> None:
    content = bytearray(film("fast start.mp4").read_bytes())
    body = content.index(b"mdat") + 4
    length = len(content) - body
    content[body + length // 3 : body + length // 2] = bytes(length // 2 - length // 3)
    (tmp_path / "damaged.mp4").write_bytes(content)

    def ingest(most: float) -> Workspace:
        values = {
            "videos": [str(tmp_path / "damaged.mp4")],
            "workspace": str(tmp_path / f"w{most}"),
            "ingest": {"verify": "decode", "max_lost": most},
        }
        workspace = Workspace(str(values["workspace"]))
        run_step("ingest", workspace, parse_config(values))
        return workspace

    with pytest.raises(DataError, match=r"of its frames are lost; ingest\.max_lost=0"):
        ingest(0.0)
    [video] = ingest(1.0).videos.records()
    [(start_s, end_s), *_] = json.loads(video.lost or "[]")
    assert 0 < start_s < end_s <= video.duration_s
