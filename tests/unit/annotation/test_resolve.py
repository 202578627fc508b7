"""Matching foreign annotations with videos: names, frames and times, classes, duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from annotation.annotators import mark_duplicates
from annotation.formats.foreign import ForeignGlance, ForeignSpan, SpanKind
from annotation.resolve import resolve_glance, resolve_glances, resolve_span
from annotation.video_index import VideoIndex, video_name
from pipeline.errors import RecordError
from pipeline.records import ABNORMAL, Glance, Reason, Video


def video(video_id: str = "Fighting001_x264", path: str | None = None, **facts: Any) -> Video:
    defaults: dict[str, Any] = {
        "sha256": "0" * 64,
        "fps": 30.0,
        "num_frames": 450,
        "duration_s": 15.0,
        "width": 320,
        "height": 240,
        "codec": "h264",
        "label": "Fighting",
        "split": None,
        "source": "test",
    }
    return Video(video_id=video_id, path=path or f"videos/{video_id}.mp4", **(defaults | facts))


def glance(frame_index: int | None = 10, name: str = "Fighting001_x264", **facts: Any) -> ForeignGlance:
    return ForeignGlance(video=name, frame_index=frame_index, place="g.csv:2", **facts)


@dataclass(frozen=True)
class VariableRate:
    """30 frames a second in the first five seconds, then 20: 150 + 200 frames in 15 s."""

    num_frames: int = 350
    duration_s: float = 15.0
    start_s: float = 0.0

    def time_of(self, frame_index: int) -> float:
        return frame_index / 30 if frame_index < 150 else 5 + (frame_index - 150) / 20

    def frame_at(self, time_s: float) -> int:
        return int(time_s * 30 + 1e-6) if time_s < 5 else 150 + int((time_s - 5) * 20 + 1e-6)


CAMERAS = [
    video("Fighting001_x264", "data/cam1/Fighting001_x264.mp4"),
    video("north", "data/cam1/0001.mp4"),
    video("south", "data/cam2/0001.mp4"),
    video("Überfall_监控 007", "ucf/Überfall_监控 007.mp4"),
    video("v=x__#1_label_B4-0-0", "xd/v=x__#1_label_B4-0-0.mp4"),
    video("City.of.God", "xd/City.of.God.2002__#01_label_B2-0-0.avi"),
    video("cam7/entry", "cam7/2024.mkv"),
]


@pytest.mark.parametrize(
    ("name", "paths", "video_id"),
    [
        ("Fighting001_x264", (), "Fighting001_x264"),
        ("Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("Fighting/Fighting001_x264.avi", (), "Fighting001_x264"),
        (r"C:\vad\Fighting\Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("/data/local-files/?d=ucf/Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("http://localhost:8080/data/local-files/?d=ucf/Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("/data/upload/5/1a2b3c4d-Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("https://bucket.s3.amazonaws.com/a/Fighting001_x264.mp4?X-Amz-Signature=1", (), "Fighting001_x264"),
        ("s3://bucket/Fighting001_x264.mp4", (), "Fighting001_x264"),
        ("/data/local-files/?d=ucf/%C3%9Cberfall_%E7%9B%91%E6%8E%A7%20007.mp4", (), "Überfall_监控 007"),
        ("U\u0308berfall_监控 007.mp4", (), "Überfall_监控 007"),
        ("v=x__#1_label_B4-0-0.mp4", (), "v=x__#1_label_B4-0-0"),
        ("City.of.God.2002__#01_label_B2-0-0", (), "City.of.God"),
        ("City.of.God.2002__#01_label_B2-0-0.mp4", (), "City.of.God"),
        ("entry.mkv", (), "cam7/entry"),
        ("north.mp4", (), "north"),
        ("cam2/0001.mp4", (), "south"),
        (r"D:\footage\cam1\0001.mp4", (), "north"),
        ("task 7", ("/data/local-files/?d=x/0001.mp4", "cam2/0001.mp4"), "south"),
        ("south", ("cam1/0001.mp4",), "south"),
    ],
)
def test_a_video_is_found_by_any_of_its_names(name: str, paths: tuple[str, ...], video_id: str) -> None:
    assert VideoIndex(CAMERAS).find(name, paths).video_id == video_id


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("0001.mp4", Reason.AMBIGUOUS_VIDEO, "can be any of 2: data/cam1/0001.mp4, data/cam2/0001.mp4"),
        ("cam3/0001.mp4", Reason.AMBIGUOUS_VIDEO, "can be any of 2"),
        ("Fighting01_x264", Reason.MISSING_VIDEO, "the nearest name is Fighting001_x264"),
        ("ighting001_x264.mp4", Reason.MISSING_VIDEO, "the nearest name is Fighting001_x264"),
        ("zzz", Reason.MISSING_VIDEO, "'zzz'; 7 video(s) are known"),
        ("", Reason.MISSING_VIDEO, "''"),
    ],
)
def test_a_video_that_is_not_found_is_named(name: str, reason: Reason, detail: str) -> None:
    with pytest.raises(RecordError) as caught:
        VideoIndex(CAMERAS).find(name)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_a_rejected_file_does_not_lend_its_clicks_to_another_of_its_name() -> None:
    ingested = [video("0001", "data/cam2/0001.mp4")]
    assert VideoIndex(ingested).find("cam1/0001.mp4").path == "data/cam2/0001.mp4"
    index = VideoIndex(ingested, rejected=["data/cam1/0001.mp4", "data/cam2/0001.mp4"])
    assert index.find("cam2/0001.mp4").path == "data/cam2/0001.mp4"
    with pytest.raises(RecordError, match=r"data/cam1/0001\.mp4 was rejected"):
        index.find("cam1/0001.mp4")


def test_names_of_videos() -> None:
    assert video_name("Arson/Arson022_x264.mp4") == "Arson022_x264"
    assert video_name("v=a.b__#1_label_G-0-0") == "v=a.b__#1_label_G-0-0"


def test_missing_videos_are_named_among_many() -> None:
    index = VideoIndex(video(f"Fighting{n:05d}_x264") for n in range(5_547))
    resolved = resolve_glances([glance(name=f"Fihgting{n:05d}_x264") for n in range(200)], index)
    assert all(isinstance(item, RecordError) for item in resolved)


def test_a_click_on_frame_0_counts() -> None:
    found = resolve_glance(glance(0, annotator="me"), VideoIndex([video()]))
    assert found == Glance(
        video_id="Fighting001_x264", time_s=0.0, frame_index=0, category="Fighting", annotator="me", origin="g.csv:2"
    )


@pytest.mark.parametrize(
    ("foreign", "frame_index"),
    [
        (glance(449), 449),
        (glance(10, frame_rate=30.0), 10),
        (glance(10, frame_rate=30.01), 10),
        # frame "10 of 375" at 25 fps is 9 / 25 s, which a 30 fps file shows as its frame 10
        (glance(9, frame_rate=25.0), 10),
        (glance(9, frame_rate=24.0), 11),
        (glance(None, time_s=0.36), 10),
        (glance(None, time_s=1 / 3), 10),
        (glance(None, time_s=14.999), 449),
    ],
)
def test_frames_and_times_of_a_constant_rate(foreign: ForeignGlance, frame_index: int) -> None:
    found = resolve_glance(foreign, VideoIndex([video()]))
    assert found.frame_index == frame_index
    assert found.time_s == pytest.approx(frame_index / 30)


def test_a_range_that_ends_long_after_its_video_gives_no_click_in_it() -> None:
    index = VideoIndex([video()])
    for rate in (None, 30.0):
        assert resolve_glance(glance(440, last_frame=470, frame_rate=rate), index).frame_index == 440
        with pytest.raises(RecordError, match="range ends at frame 700, past the end of Fighting001") as bad:
            resolve_glance(glance(400, last_frame=700, frame_rate=rate), index)
        assert bad.value.reason is Reason.FRAME_OUT_OF_RANGE


def test_a_click_counted_at_another_rate_says_so() -> None:
    found = resolve_glance(glance(9, frame_rate=25.0), VideoIndex([video()]))
    assert found.origin == "g.csv:2 (counted at 25 fps)"


@pytest.mark.parametrize(
    ("foreign", "frame_index", "time_s"),
    [
        (glance(200), 200, 7.5),
        (glance(None, time_s=7.5), 200, 7.5),
        (glance(225, frame_rate=30.0), 200, 7.5),
    ],
)
def test_a_variable_rate_goes_by_the_timeline(foreign: ForeignGlance, frame_index: int, time_s: float) -> None:
    index = VideoIndex([video(fps=350 / 15, num_frames=350)])
    found = resolve_glance(foreign, index, lambda _: VariableRate())
    assert (found.frame_index, found.time_s) == (frame_index, time_s)


@pytest.mark.parametrize(
    ("foreign", "reason", "detail"),
    [
        (
            glance(900),
            Reason.FRAME_OUT_OF_RANGE,
            "frame 900 is past the end of Fighting001_x264, a video of 450 frames",
        ),
        (glance(450), Reason.FRAME_OUT_OF_RANGE, "frame 450"),
        (glance(-1), Reason.FRAME_OUT_OF_RANGE, "frame -1 is negative"),
        (glance(None, time_s=15.0), Reason.FRAME_OUT_OF_RANGE, "time 15 s is outside"),
        (glance(None, time_s=-0.5), Reason.FRAME_OUT_OF_RANGE, "time -0.5 s is outside"),
        (glance(None), Reason.MALFORMED_ROW, "neither a frame nor a time"),
        (
            glance(430, frame_rate=24.0),
            Reason.FRAME_RATE_CONFLICT,
            "frame 430 at 24 fps is 17.92 s, past the end of Fighting001_x264, a video of 450 frames (15.00 s); "
            "the file itself has 30 fps, so the rate of the annotation is wrong",
        ),
        (glance(900, frame_rate=24.0), Reason.FRAME_OUT_OF_RANGE, "frame 900 at 24 fps is 37.50 s"),
        (glance(10, category="Fihgting"), Reason.UNKNOWN_CATEGORY, "'Fihgting' is no class"),
        (glance(10, category="Fihgting"), Reason.UNKNOWN_CATEGORY, "the nearest is Fighting"),
        (glance(10, category="Normal"), Reason.LABEL_CONFLICT, "a click marks Normal"),
        (glance(10, name="calm"), Reason.LABEL_CONFLICT, "in calm, whose label is Normal"),
        (glance(10, name="calm", category="Robbery"), Reason.LABEL_CONFLICT, "a click marks Robbery in calm"),
        (glance(10, name="calm", category="Anomaly"), Reason.LABEL_CONFLICT, "in calm, whose label is Normal"),
    ],
)
def test_a_click_that_cannot_be_taken_names_value_and_limit(
    foreign: ForeignGlance, reason: Reason, detail: str
) -> None:
    index = VideoIndex([video(), video("calm", label="Normal"), video("unknown", label=None)])
    with pytest.raises(RecordError) as caught:
        resolve_glance(foreign, index)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


@pytest.mark.parametrize("taxonomy", ["auto", "ucf-crime"])
@pytest.mark.parametrize("category", [None, "", "Abnormal", "anomaly", "event", " Click "])
def test_a_click_without_a_class_says_that_something_is_abnormal(category: str | None, taxonomy: str) -> None:
    index = VideoIndex([video("unknown", label=None), video("named", label="Fighting"), video("odd", label="anomaly")])
    found = {
        name: resolve_glance(glance(10, name=name, category=category), index, taxonomy=taxonomy).category
        for name in ("unknown", "named", "odd")
    }
    assert found == {"unknown": ABNORMAL, "named": "Fighting", "odd": ABNORMAL}


@pytest.mark.parametrize(
    ("category", "label", "taxonomy", "expected"),
    [
        (None, "Fighting", "auto", "Fighting"),
        (None, "fighting", "auto", "Fighting"),
        ("Anomaly", "Robbery", "auto", "Robbery"),
        ("robbery", "Fighting", "auto", "Robbery"),
        ("B6", None, "auto", "Car accident"),
        ("Biking", None, "auto", "Biking"),
        ("juggling", "Juggling", "auto", "Juggling"),
        (None, "Juggling", "auto", "Juggling"),
        ("Riot", None, "xd-violence", "Riot"),
    ],
)
def test_the_class_comes_from_the_click_or_the_video(
    category: str | None, label: str | None, taxonomy: str, expected: str
) -> None:
    index = VideoIndex([video(label=label)])
    assert resolve_glance(glance(category=category), index, taxonomy=taxonomy).category == expected


def test_a_named_taxonomy_accepts_nothing_else() -> None:
    with pytest.raises(RecordError, match="'Riot' is no class of the taxonomy ucf-crime"):
        resolve_glance(glance(category="Riot"), VideoIndex([video(label="Riot")]), taxonomy="ucf-crime")


def test_the_second_click_on_a_frame_is_a_duplicate() -> None:
    clicks = [
        glance(5),
        glance(5, annotator="another"),
        glance(5, category="Robbery"),
        glance(6),
        glance(None, time_s=5 / 30),
        glance(900),
    ]
    resolved = resolve_glances(clicks, VideoIndex([video()]))
    reasons = [item.reason if isinstance(item, RecordError) else None for item in resolved]
    assert reasons == [None, Reason.DUPLICATE_GLANCE, None, None, Reason.DUPLICATE_GLANCE, Reason.FRAME_OUT_OF_RANGE]
    assert isinstance(resolved[1], RecordError)
    assert resolved[1].detail == "frame 5 of Fighting001_x264 is marked Fighting by g.csv:2"
    assert mark_duplicates(resolved) == resolved


def span(start: float | None, end: float | None, *, seconds: bool = False, **facts: Any) -> ForeignSpan:
    bounds = {"start_s": start, "end_s": end} if seconds else {"start_frame": start, "end_frame": end}
    return ForeignSpan(video="Fighting001_x264", kind=SpanKind.EVENT, place="t.csv:2", **bounds, **facts)


@pytest.mark.parametrize(
    ("foreign", "bounds"),
    [
        (span(30, 60), (1.0, 2.0)),
        (span(0, 450), (0.0, 15.0)),
        (span(25, 50, frame_rate=25.0), (1.0, 2.0)),
        (span(1.5, 15.4, seconds=True), (1.5, 15.0)),
        (span(None, None), (0.0, 15.0)),
        (span(30, 60, num_frames=452, frame_rate=30.0), (1.0, 2.0)),
    ],
)
def test_spans_in_seconds_end_with_their_video(foreign: ForeignSpan, bounds: tuple[float, float]) -> None:
    found = resolve_span(foreign, VideoIndex([video()]))
    assert (found.start_s, found.end_s) == pytest.approx(bounds)


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        (span(440, 500), Reason.FRAME_OUT_OF_RANGE),
        (span(500, 510), Reason.FRAME_OUT_OF_RANGE),
        (span(5, 5, seconds=True), Reason.FRAME_OUT_OF_RANGE),
        (span(0, 10, num_frames=900), Reason.FRAME_RATE_CONFLICT),
    ],
)
def test_spans_outside_their_video_are_refused(foreign: ForeignSpan, reason: Reason) -> None:
    with pytest.raises(RecordError) as caught:
        resolve_span(foreign, VideoIndex([video()]))
    assert caught.value.reason == reason


RENAMED = [
    video("a", "/v/v=AbC1__#1_label_B1-0-0.mp4"),
    video("b", "/v/lobby cam 1.mp4"),
    video("c", "/v/U\u0308berfall Bahnhof.MP4"),
    video("d", "/v/gate 2.mp4"),
    video("e", "/v/gate_2.mp4"),
    video("f", "/w/yard 3.mp4"),
    video("g", "/v/yard 3.mp4"),
    video("h", "/v/1-2.mp4"),
]


@pytest.mark.parametrize(
    ("name", "video_id"),
    [
        ("/data/upload/3/0a1b2c3d-vAbC1__1_label_B1-0-0.mp4", "a"),
        ("http://ls:8080/data/upload/3/0a1b2c3e-lobby_cam_1.mp4", "b"),
        ("/tasks/5/resolve/?fileuri=czM6Ly9idWNrZXQvbG9iYnkgY2FtIDEubXA0", "b"),
        ("Lobby Cam 1", "b"),
        ("überfall bahnhof.mp4", "c"),
        ("gate 2.mp4", "d"),
        ("gate_2", "e"),
        ("/data/upload/3/0a1b2c3e-gate_2.mp4", None),
        ("W/Yard 3.mp4", None),
        ("w/Yard 3.mp4", "f"),
        ("/data/upload/3/0a1b2c3e-yard_3.mp4", None),
    ],
)
def test_a_name_that_a_tool_changed_means_the_only_video_it_can_mean(name: str, video_id: str | None) -> None:
    index = VideoIndex(RENAMED)
    if video_id is not None:
        assert index.find(name).video_id == video_id
        return
    with pytest.raises(RecordError, match=r"can be any of 2: /") as caught:
        index.find(name)
    assert caught.value.reason == Reason.AMBIGUOUS_VIDEO


@pytest.mark.parametrize(
    "name", ["01.02.2026", "2026-02-01", "2026-02-01 00:00:00", "1-Feb", "Feb-26", "1. Feb", "1,2E+11"]
)
def test_a_name_that_a_spreadsheet_took_for_a_date_is_told(name: str) -> None:
    with pytest.raises(RecordError, match=r"did a spreadsheet make that of a name such as 1-2"):
        VideoIndex(RENAMED).find(name)


@pytest.mark.parametrize("click", [{"frame_index": None, "time_s": 4.5}, {"frame_index": 135}])
def test_a_click_where_there_is_no_picture_is_refused(click: dict[str, Any]) -> None:
    damaged = video("Fighting001_x264", lost="[[4.0, 5.0]]")
    with pytest.raises(RecordError, match=r"no picture between 4\.00 s and 5\.00 s"):
        resolve_glance(glance(**click), VideoIndex([damaged]))
