from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from pipeline.records import Reason
from pipeline.stages.listing import BadSource, Source, list_sources


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def good(entries: list[str]) -> list[Source]:
    return [source for source in list_sources(entries) if isinstance(source, Source)]


def bad(entries: list[str]) -> list[tuple[str, Reason]]:
    return [(source.name, source.fault.reason) for source in list_sources(entries) if isinstance(source, BadSource)]


def test_folder_is_walked_for_videos_in_order(tmp_path: Path) -> None:
    for name in ("b/x.mp4", "a/x.MP4", "a/y.avi", "notes.txt", "videos.csv", "ünï code 'q\".webm", "new\nline.mp4"):
        touch(tmp_path / name)
    names = [source.name.split("/", 1)[1] for source in good([str(tmp_path)])]
    assert names == ["new\nline.mp4", "ünï code 'q\".webm", "a/x.MP4", "a/y.avi", "b/x.mp4"]


def test_recorders_files_are_taken_and_what_else_looks_like_video_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.dav", "b.265", "c.H265", "d.264", "e.mp4.part", "f.g64", "notes.txt", "a.mp4.json", "part"):
        (tmp_path / name).write_bytes(b"x")
    assert [Path(source.path).name for source in list_sources([str(tmp_path)])] == ["a.dav", "b.265", "c.H265", "d.264"]
    named = [Path(record.getMessage().partition(": ")[0]).name for record in caplog.records]
    assert named == ["e.mp4.part", "f.g64"]


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("clip.1", b"\0\0\0\x20ftypisom"),
        ("clip", b"\x1aE\xdf\xa3"),
        ("clip.dat", b"RIFF\0\0\0\0AVI LIST"),
        ("clip.rec", (b"G" + bytes(187)) * 2),
        ("clip.bin", b"DHAV\xfd"),
    ],
)
def test_a_video_under_another_ending_is_named(
    name: str, head: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(head)
    for other, content in {
        "a.heic": head,
        "song": b"\0\0\0\x20ftypM4A ",
        "empty": b"",
        "note": b"Good morning",
    }.items():
        (tmp_path / other).write_bytes(content)
    assert list(list_sources([str(tmp_path)])) == []
    [record] = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / name}: begins like a video and is not taken")


def test_equal_names_in_two_folders_keep_different_names(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mp4"):
        touch(tmp_path / name)
    apart = good([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [source.name for source in apart] == ["a/x.mp4", "b/x.mp4"]


def test_folder_named_like_a_video_is_rejected_and_its_content_taken(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.mp4/real.mp4")
    assert bad([str(tmp_path / "in")]) == [(str(tmp_path / "in/x.mp4"), Reason.NOT_A_FILE)]
    assert [Path(source.path).name for source in good([str(tmp_path / "in")])] == ["real.mp4"]


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path / "in/x.mp4")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/self.mp4").symlink_to(tmp_path / "in/self.mp4")
    assert [Path(source.path).name for source in good([str(tmp_path / "in")])] == ["self.mp4", "x.mp4"]


def test_a_file_listed_twice_is_taken_once(tmp_path: Path) -> None:
    file = touch(tmp_path / "x.mp4")
    assert len(good([str(tmp_path), str(file), str(tmp_path / "*.mp4")])) == 1


def test_globs_match_files_and_walk_folders(tmp_path: Path) -> None:
    touch(tmp_path / "a/x.mp4")
    touch(tmp_path / "b/deep/y.mp4")
    assert len(good([str(tmp_path / "*")])) == 2
    assert len(good([str(tmp_path / "**/*.mp4")])) == 2
    assert bad([str(tmp_path / "*.avi")]) == [(str(tmp_path / "*.avi"), Reason.FILE_MISSING)]


def test_missing_entry_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = touch(tmp_path / "x.mp4")
    entries = [str(tmp_path / "nowhere"), str(file)]
    assert bad(entries) == [(entries[0], Reason.FILE_MISSING)]
    assert len(good(entries)) == 1


def test_csv_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "video_id,file,label,split,fps,num_frames\n"
        "v1,videos/a.mp4,Fighting,train,25,100\n"
        "v2,videos/b.mp4,,,,\n"
        "v3,videos/c.mp4\n"
        "v4,,Normal,train,,100\n"
        "v5,videos/d.mp4,Normal,dev,25,100\n"
        'v6,"videos/e,f.mp4",Normal,test,fast,100\n',
        encoding="utf-8",
    )
    assert good([str(manifest)]) == [
        Source(
            path=str(tmp_path / "videos/a.mp4"), name="videos/a.mp4", place=f"{manifest}:2", video_id="v1",
            label="Fighting", split="train", claimed_fps=25.0, claimed_frames=100,
        ),
        Source(path=str(tmp_path / "videos/b.mp4"), name="videos/b.mp4", place=f"{manifest}:3", video_id="v2"),
    ]  # fmt: skip
    faults = [source.fault for source in list_sources([str(manifest)]) if isinstance(source, BadSource)]
    assert [fault.reason for fault in faults] == [Reason.MALFORMED_ROW] * 4
    assert [str(manifest) + f":{line}" in fault.detail for fault, line in zip(faults, (4, 5, 6, 7), strict=True)]
    assert "a video without footage needs fps instead" in faults[1].detail
    assert "split='dev' is none of test, train, validation" in faults[2].detail


def test_a_row_without_a_file_is_a_video_without_footage(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "video_id,num_frames,fps,label\nv1,856,30,Abuse\nv2,0,30,Abuse\nv3,10,-1,Abuse\nv1,9,30,Normal\n"
    )
    assert good([str(manifest)]) == [
        Source(
            path="", name="v1", place=f"{manifest}:{line}", video_id="v1", label=label, claimed_fps=30.0,
            claimed_frames=frames,
        )
        for line, frames, label in ((2, 856, "Abuse"), (5, 9, "Normal"))
    ]  # fmt: skip
    faults = [source.fault for source in list_sources([str(manifest)]) if isinstance(source, BadSource)]
    for fault, value in zip(faults, ("num_frames=0 must be at least 1", "fps=-1 must be positive"), strict=True):
        assert fault.reason == Reason.MALFORMED_ROW
        assert value in fault.detail


@pytest.mark.parametrize("text", ["", "name,label\na,b\n"])
def test_csv_without_the_file_column_is_named(tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(text)
    assert [reason for _, reason in bad([str(manifest)])] == [Reason.MALFORMED_ROW]


def test_jsonl_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.jsonl"
    manifest.write_text('{"video_id": "v1", "file": "a.mp4", "label": null}\n\n{broken\n[1]\n{"label": "x"}\n')
    assert [(source.video_id, source.label) for source in good([str(manifest)])] == [("v1", None)]
    assert [name for name, _ in bad([str(manifest)])] == [f"{manifest}:{line}" for line in (3, 4, 5)]


def test_manifest_that_is_no_text_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_bytes(b"video_id,file\n\x81\xfe,a\n")
    assert bad([str(manifest)]) == [(str(manifest), Reason.UNREADABLE)]


def test_urls_are_listed_through_fsspec() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/listing/a.mp4", b"x")
    fs.pipe_file("/listing/b.txt", b"x")
    assert [source.path for source in good(["memory://listing"])] == ["memory:///listing/a.mp4"]
    assert [source.path for source in good(["memory://listing/*.mp4"])] == ["memory:///listing/a.mp4"]


def test_unreadable_manifest_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text("file\na.mp4\n")
    manifest.chmod(0)
    if os.access(manifest, os.R_OK):
        pytest.skip("this user, root, may read everything")
    assert bad([str(manifest)]) == [(str(manifest), Reason.UNREADABLE)]


def test_links_that_lead_in_a_circle_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "in/deep/x.mp4")
    (tmp_path / "in/deep/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/again").symlink_to(tmp_path / "in/deep", target_is_directory=True)
    assert bad([str(tmp_path / "in")]) == [(str(tmp_path / "in/again/loop"), Reason.NOT_A_FILE)]
    assert len(good([str(tmp_path / "in")])) == 1


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in/a/x.mp4")
    touch(tmp_path / "in/closed/y.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        # Tests may run as a user who may read everything, so the refusal is played.
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert bad([str(tmp_path / "in")]) == [(str(tmp_path / "in/closed"), Reason.UNREADABLE)]
    assert len(good([str(tmp_path / "in")])) == 1


def test_a_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "x.mp4")
    (tmp_path / os.fsdecode(b"stray\xff.mp4")).touch()
    assert [reason for _, reason in bad([str(tmp_path)])] == [Reason.UNREADABLE]
    assert len(good([str(tmp_path)])) == 1


@pytest.mark.parametrize("entry", ["{}", "{}/**/*.mp4", "{}/*"])
def test_what_a_build_made_below_the_videos_is_no_source(tmp_path: Path, entry: str) -> None:
    for name in ("x.mp4", "clips/own.mp4", "w/clips/made.mp4", "w/dataset/made.mp4", "w/tables/ingest/_manifest.json"):
        touch(tmp_path / name)
    assert {Path(source.path).name for source in good([entry.format(tmp_path)])} == {"x.mp4", "own.mp4"}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffvideo_id,file,label\r\nv1,a.mp4,Normal\r\n",
        "video_id;file;label\nv1;a.mp4;Normal\n",
        "video_id\tfile\tlabel\nv1\ta.mp4\tNormal\n",
        "\nVideo_ID , File,LABEL\n\nv1, a.mp4 ,Normal\n",
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_bytes(text.encode())
    [source] = good([str(manifest)])
    assert (source.video_id, source.name, source.label) == ("v1", "a.mp4", "Normal")
    assert bad([str(manifest)]) == []


def test_an_open_quote_is_named_with_its_line_and_the_rows_before_are_taken(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text('file,label\na.mp4,Normal\n"b.mp4,Normal\nc.mp4,Normal\n')
    assert len(good([str(manifest)])) == 1
    assert bad([str(manifest)]) == [(f"{manifest}:3", Reason.MALFORMED_ROW)]


def test_values_that_no_table_holds_are_named(tmp_path: Path) -> None:
    manifest = tmp_path / "videos.jsonl"
    rows = [{"file": "a\0.mp4"}, {"file": "a.mp4", "video_id": "\ud800"}, {"file": "b.mp4", "label": ["x"]}]
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    assert bad([str(manifest)]) == [(f"{manifest}:{line}", Reason.MALFORMED_ROW) for line in (1, 2, 3)]


def test_a_manifest_names_files_in_another_form_or_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "videos").mkdir()
    for name in (unicodedata.normalize("NFD", "Überfall.mp4"), "Lobby.MP4", "videos/Hall.mp4"):
        (tmp_path / name).touch()
    manifest = tmp_path / "videos.csv"
    text = "video_id;file;fps\nU;Überfall.mp4;29,97\nL;lobby.mp4;25\nW;videos\\hall.MP4;25\nN;none.mp4;25\n"
    manifest.write_bytes(text.encode("cp1252"))
    found = [source for source in list_sources([str(manifest)]) if isinstance(source, Source)]
    assert [Path(source.path).exists() for source in found] == [True, True, True, False]
    assert found[0].claimed_fps == 29.97
    assert "Lobby.MP4: taken for lobby.mp4, which is spelt otherwise" in caplog.text


def test_a_manifest_name_that_two_files_fit(tmp_path: Path) -> None:
    for name in ("Lobby.mp4", "LOBBY.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "videos.csv").write_text("file\nlobby.mp4\n")
    (bad,) = list_sources([str(tmp_path / "videos.csv")])
    assert isinstance(bad, BadSource)
    assert "can be any of LOBBY.mp4, Lobby.mp4, which differ in case only" in bad.fault.detail
