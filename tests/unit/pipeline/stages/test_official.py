"""Published datasets as their owners unpack them: official names, splits, classes; faults are told by count."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.config import SourcesConfig
from pipeline.errors import ConfigError
from pipeline.records import Reason
from pipeline.sources.catalogue import load_catalogue
from pipeline.stages.listing import BadSource, Source, list_sources
from pipeline.stages.official import pass_undescribed, take_official
from pipeline.stages.zipped import unpack
from pipeline.workspace import Workspace

UCF = {
    "ucf-crime.training.csv": "video-id\nAbuse001_x264\nAbuse002_x264\nNormal_Videos001_x264\n",
    "ucf-crime.testing.csv": "video-id\nAbuse028_x264\nNormal_Videos_003_x264\n",
}
XD = {
    "xd-violence.training.csv": "video-id\nv=wu20-e9__#1_label_B4-0-0\nBad.Boys.1995__#00-26-51_00-27-53_label_B2-0-0\n"
    "Ip Man.2008__#1_label_A\n",
    "xd-violence.testing.csv": "video-id\nv=bhZ__#1_label_G-0-0\n",
}
TRAIN, TEST = "Anomaly-Videos-Part-1/Abuse", "Testing_Normal_Videos_Anomaly"
UNPACKED = [
    f"UCF_Crimes/{TRAIN}/Abuse001_x264.mp4",
    f"UCF_Crimes/{TRAIN}/Abuse002_x264.mp4",
    f"UCF_Crimes/{TRAIN}/Abuse028_x264.mp4",
    "UCF_Crimes/Training-Normal-Videos-Part-1/Normal_Videos001_x264.mp4",
    f"UCF_Crimes/{TEST}/Normal_Videos_003_x264.mp4",
    "UCF_Crimes/Normal_Videos_event/Normal_Videos_003_x264.mp4",
    "XD-Violence/1-1004/v=wu20-e9__#1_label_B4-0-0.mp4",
    "XD-Violence/1005-2004/Bad.Boys.1995__#00-26-51_00-27-53_label_B2-0-0.mp4",
    "XD-Violence/1005-2004/Ip Man.2008__#1_label_A.mp4",
    "XD-Violence/videos/v=bhZ__#1_label_G-0-0.mp4",
]
OFFICIAL = {
    # a training video may be drawn for validation
    "Abuse001_x264": (None, "Abuse"),
    "Abuse002_x264": (None, "Abuse"),
    "Abuse028_x264": ("test", "Abuse"),
    "Normal_Videos001_x264": (None, "Normal"),
    "Normal_Videos_003_x264": ("test", "Normal"),
    "v=wu20-e9__#1_label_B4-0-0": (None, "Riot"),
    "Bad.Boys.1995__#00-26-51_00-27-53_label_B2-0-0": (None, "Shooting"),
    "Ip Man.2008__#1_label_A": (None, "Normal"),
    "v=bhZ__#1_label_G-0-0": ("test", "Explosion"),
}


def put(folder: Path, names: list[str], content: bytes = b"video") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def put_lists(folder: Path, lists: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / name).write_text(text)


def take(
    entries: list[Path], settings: SourcesConfig | None = None
) -> tuple[dict[str, tuple[str | None, str | None]], dict[str, tuple[Reason, str]]]:
    """Return split and label of the videos taken, by id, and the remarks, by name."""
    config = settings or SourcesConfig(datasets=["ucf-crime", "xd-violence"])
    videos = list(map(str, entries))
    found = take_official(list_sources(videos, zipped=True), load_catalogue(config, videos), config)
    taken, remarks = {}, {}
    for source in found:
        if isinstance(source, BadSource):
            remarks[source.name] = (source.fault.reason, source.fault.detail)
        else:
            assert source.video_id not in taken
            taken[str(source.video_id)] = (source.split, source.label)
    return taken, remarks


def test_datasets_as_they_unpack_get_official_names_splits_and_classes_and_copies_are_taken_once(
    tmp_path: Path,
) -> None:
    put(tmp_path, UNPACKED)
    put_lists(tmp_path / "annotations", UCF | XD)
    taken, remarks = take([tmp_path / "UCF_Crimes", tmp_path / "XD-Violence"])
    assert taken == OFFICIAL
    assert list(remarks) == ["ucf-crime: copies"]
    reason, detail = remarks["ucf-crime: copies"]
    assert reason is Reason.FURTHER_COPY
    assert detail == (
        "ucf-crime: 1 files hold a video that another file holds, e.g. "
        "UCF_Crimes/Normal_Videos_event/Normal_Videos_003_x264.mp4: each video is taken once"
    )


@pytest.mark.parametrize(
    "respelt",
    [str.lower, lambda name: name.replace("_x264", ""), lambda name: name.replace("#", "%23").replace("=", "%3D"),
     lambda name: name.replace("#", "").replace("=", "_").replace(" ", "_"),
     lambda name: "".join(c if c.isalnum() or c in "._-/" else "-" for c in name.upper()).replace(".MP4", ".mp4")],
)  # fmt: skip
def test_copies_that_changed_the_spelling_are_known(tmp_path: Path, respelt: object) -> None:
    names = [respelt(name.split("/", 1)[1]) for name in UNPACKED if "_event" not in name]  # type: ignore[operator]
    put(tmp_path / "elsewhere", names)
    put_lists(tmp_path / "elsewhere/lists", UCF | XD)
    assert take([tmp_path / "elsewhere"]) == (OFFICIAL, {})


def test_what_is_missing_is_said_once_by_count_and_list(tmp_path: Path) -> None:
    put(tmp_path, UNPACKED[:1])
    put_lists(tmp_path / "UCF_Crimes", UCF)
    taken, remarks = take([tmp_path / "UCF_Crimes"])
    assert list(taken) == ["Abuse001_x264"]
    assert remarks["ucf-crime: train"] == (
        Reason.FILE_MISSING,
        "ucf-crime: 2 of the 3 train videos of ucf-crime.training.csv are not there, 1 are; e.g. Abuse002_x264, "
        "Normal_Videos001_x264",
    )
    assert "2 of the 2 test videos" in remarks["ucf-crime: test"][1]
    # the other dataset is not there at all, and neither are its lists
    assert "the list of its 3954 train videos is not there, nor one of them" in remarks["xd-violence: train"][1]
    assert len(remarks) == 4


def test_a_dataset_given_twice_is_taken_once_and_best_from_the_larger_file(tmp_path: Path) -> None:
    put(tmp_path / "one", UNPACKED[:5], b"cut")
    put(tmp_path / "two", UNPACKED[:5], b"whole")
    put_lists(tmp_path, UCF)
    config = SourcesConfig(datasets=["ucf-crime"])
    videos = [str(tmp_path / "one"), str(tmp_path / "two")]
    found = list(take_official(list_sources(videos), load_catalogue(config, videos), config))
    assert [source.name.split("/")[0] for source in found if isinstance(source, Source)] == ["two"] * 5
    remark = found[0]
    assert isinstance(remark, BadSource), "it comes before the faults of single files, of which the log names a few"
    assert remark.videos == 0
    assert remark.fault.detail.startswith("ucf-crime: 5 files hold a video that another file holds, e.g. one/UCF")
    assert remark.fault.detail.count("mp4") == 3


def test_a_video_of_both_lists_is_a_test_video_and_names_of_one_video_are_one(tmp_path: Path) -> None:
    put(tmp_path, UNPACKED[:5])
    both = UCF["ucf-crime.training.csv"] + "Abuse028_x264\nabuse001\n"
    put_lists(tmp_path, UCF | {"ucf-crime.training.csv": both})
    taken, remarks = take([tmp_path / "UCF_Crimes"], SourcesConfig(datasets=["ucf-crime"]))
    assert taken["Abuse028_x264"] == ("test", "Abuse")
    assert [detail for _, detail in remarks.values()] == [
        "ucf-crime: 1 videos stand in several lists, e.g. Abuse028_x264: each belongs to test before validation before "
        "train",
        "ucf-crime: 1 names of its lists differ from others in spelling alone, e.g. abuse001: each is one video",
    ]


def test_without_its_lists_a_dataset_is_not_used_and_the_message_says_where_they_are(tmp_path: Path) -> None:
    put(tmp_path, UNPACKED)
    put_lists(tmp_path / "annotations", UCF)
    with pytest.raises(ConfigError, match=r"v=wu20.*list of train videos is not there: put xd-violence\.training\.csv"):
        take([tmp_path / "UCF_Crimes", tmp_path / "XD-Violence"])


@pytest.mark.parametrize("entry", ["data/UCF_Crimes", "data/UCF_*", "data/all.zip", "data/videos.csv"])
def test_lists_are_found_beside_folders_patterns_archives_and_manifests(tmp_path: Path, entry: str) -> None:
    put(tmp_path / "data", UNPACKED[:5])
    put_lists(tmp_path / "data", UCF)
    with zipfile.ZipFile(tmp_path / "data/all.zip", "w") as archive:
        for name in UNPACKED[:5]:
            archive.write(tmp_path / "data" / name, name)
    (tmp_path / "data/videos.csv").write_text("\n".join(["file", *UNPACKED[:5]]))
    taken, _ = take([tmp_path / entry], SourcesConfig(datasets=["ucf-crime"]))
    assert taken == dict(list(OFFICIAL.items())[:5])


def test_files_of_no_list_are_left_out_by_count_unless_wanted(tmp_path: Path) -> None:
    put(tmp_path, [*UNPACKED[:5], *(f"UCF_Crimes/more/{number}.mp4" for number in range(4))])
    put_lists(tmp_path, UCF)
    _, remarks = take([tmp_path / "UCF_Crimes"], SourcesConfig(datasets=["ucf-crime"]))
    assert remarks["unlisted files"] == (
        Reason.UNLISTED,
        "4 files are on no list of ucf-crime, e.g. UCF_Crimes/more/0.mp4, UCF_Crimes/more/1.mp4, "
        "UCF_Crimes/more/2.mp4, ...: left out; sources.unlisted=keep takes them",
    )
    videos = [str(tmp_path / "UCF_Crimes")]
    config = SourcesConfig(datasets=["ucf-crime"], unlisted="keep")
    kept = list(take_official(list_sources(videos), load_catalogue(config, videos), config))
    assert sum(isinstance(source, Source) for source in kept) == 9


def test_a_manifest_may_hold_more_out_but_never_trains_on_a_test_video(tmp_path: Path) -> None:
    put(tmp_path, ["Abuse001_x264.mp4", "Abuse028_x264.mp4", "mine.mp4"])
    put_lists(tmp_path / "annotations", UCF)
    manifest = tmp_path / "videos.csv"
    manifest.write_text(
        "file,video_id,split\nAbuse001_x264.mp4,,validation\nAbuse028_x264.mp4,my28,train\nmine.mp4,mine,train\n"
    )
    config = SourcesConfig(datasets=["ucf-crime"], annotations=[str(tmp_path / "annotations")])
    taken, _ = take([manifest], config)
    assert {name: split for name, (split, _) in taken.items()} == {
        "Abuse001_x264": "validation", "my28": "test", "mine": "train",
    }  # fmt: skip


def test_zips_are_read_as_they_are_and_half_a_zip_is_named(tmp_path: Path, workspace: Workspace) -> None:
    root = tmp_path / "UCF_Crimes"
    root.mkdir()
    put_lists(root, UCF)
    with zipfile.ZipFile(root / "Anomaly-Videos-Part-1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Anomaly-Videos-Part-1/Abuse/Abuse001_x264.mp4", b"one" * 1000)
        archive.writestr("__MACOSX/._Abuse002_x264.mp4", b"no video")
    with zipfile.ZipFile(root / "Testing_Normal_Videos.zip", "w") as archive:
        archive.writestr("Normal_Videos_003_x264.mp4", b"three" * 1000)
    whole = (root / "Testing_Normal_Videos.zip").read_bytes()
    (root / "Testing_Normal_Videos.zip").write_bytes(whole[: len(whole) // 2])
    config = SourcesConfig(datasets=["ucf-crime"])
    found = list(take_official(list_sources([str(root)], zipped=True), load_catalogue(config, [str(root)]), config))
    (video,) = [source for source in found if isinstance(source, Source)]
    assert (video.video_id, video.split) == ("Abuse001_x264", None)
    assert unpack(video.path, workspace).read_bytes() == b"one" * 1000
    (half,) = [one for one in found if isinstance(one, BadSource) and one.fault.reason is Reason.TRUNCATED]
    assert "Testing_Normal_Videos.zip: not a whole zip file" in half.fault.detail
    # without published datasets, archives are what they were: no videos
    assert list(list_sources([str(root)])) == []


def test_somebody_elses_dataset_is_one_more_file(tmp_path: Path) -> None:
    put(tmp_path, ["corpus/Fighting001.mp4", "corpus/Fighting002.mp4"])
    put_lists(tmp_path / "corpus", {"our_train.txt": "a/Fighting001.mp4\n", "our_test.txt": "a\\Fighting002.mp4\n"})
    (tmp_path / "ours.yaml").write_text(
        "title: Ours\nhomepage: none\nlicense: ours\ncitation: none\ntaxonomy: ucf-crime\nlists:\n"
        "  - {split: train, videos: 1, files: [our_train.txt], url: here}\n"
        "  - {split: test, videos: 1, files: [our_test.txt], url: here}\n"
    )
    taken, remarks = take([tmp_path / "corpus"], SourcesConfig(datasets=[str(tmp_path / "ours.yaml")]))
    assert taken == {"Fighting001": (None, "Fighting"), "Fighting002": ("test", "Fighting")}
    assert remarks == {}


def test_a_published_dataset_that_nobody_mentions_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, [*UNPACKED[:2], "mine/lobby.mp4"])
    found = list_sources([str(tmp_path / "UCF_Crimes"), str(tmp_path / "mine")])
    assert len(list(pass_undescribed(found))) == 3
    assert "2 files are named like those of ucf-crime" in caplog.text
    assert "without sources.datasets=[ucf-crime], its official test videos may be trained on" in caplog.text
    caplog.clear()
    assert len(list(pass_undescribed(list_sources([str(tmp_path / "mine")])))) == 1
    assert caplog.text == ""


def test_where_the_owners_name_validation_videos_nothing_is_drawn(tmp_path: Path) -> None:
    put(tmp_path, ["corpus/Fighting001.mp4", "corpus/Fighting002.mp4"])
    put_lists(tmp_path / "corpus", {"our_train.txt": "Fighting001\n", "our_val.txt": "Fighting002\n"})
    (tmp_path / "ours.yaml").write_text(
        "title: Ours\nhomepage: none\nlicense: ours\ncitation: none\ntaxonomy: ucf-crime\nlists:\n"
        "  - {split: train, videos: 1, files: [our_train.txt], url: here}\n"
        "  - {split: validation, videos: 1, files: [our_val.txt], url: here}\n"
    )
    taken, _ = take([tmp_path / "corpus"], SourcesConfig(datasets=[str(tmp_path / "ours.yaml")]))
    assert taken == {"Fighting001": ("train", "Fighting"), "Fighting002": ("validation", "Fighting")}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"datasets": ["ucf"]}, "ucf: neither one of ucf-crime, xd-violence nor a file"),
        ({"datasets": ["ucf-crime"], "annotations": ["/no/such"]}, "sources.annotations: /no/such: no such folder"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_catalogue(SourcesConfig.model_validate(settings))
