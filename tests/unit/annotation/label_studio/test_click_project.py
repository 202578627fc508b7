"""Which tasks a workspace's videos become, and what a second run adds."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from http_server import Reply
from numbered_films import write_film
from studio_double import TOKEN, StudioDouble

from annotation.label_studio.click_interface import glance_config, read_interface
from annotation.label_studio.click_project import init_glances
from annotation.label_studio.client import StudioClient
from annotation.label_studio.serving import Serving
from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.records import ABNORMAL, Reason, Video
from pipeline.workspace import Workspace

NTSC = Fraction(30000, 1001)


@pytest.fixture
def double() -> StudioDouble:
    return StudioDouble()


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=5.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A document root with two folders of films, one of which has a name that needs quoting."""
    root = tmp_path_factory.mktemp("root")
    for name in ("gate/steady.mp4", "back yard/ünïque & odd.mp4"):
        (root / name).parent.mkdir()
    write_film(root / "gate/steady.mp4", list(range(30)), Fraction(1, 25), Fraction(25))
    write_film(root / "back yard/ünïque & odd.mp4", [1001 * n for n in range(30)], Fraction(1, 30000), NTSC)
    return root


def film(video_id: str, path: Path | str, label: str | None = None) -> Video:
    return Video(
        video_id=video_id, path=str(path), sha256=video_id, fps=25.0, num_frames=30, duration_s=1.2, width=256,
        height=128, codec="h264", label=label, split=None, source="",
    )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, root: Path) -> Workspace:
    opened = Workspace(str(tmp_path / "ws"))
    add(opened, film("steady", root / "gate/steady.mp4", "Robbery"))
    add(opened, film("odd", root / "back yard/ünïque & odd.mp4", "Normal"))
    return opened


def add(workspace: Workspace, video: Video) -> None:
    workspace.videos.commit([video.video_id], [(video.video_id, video)], [], "f")


def test_every_video_becomes_a_task_with_its_own_rate(
    workspace: Workspace, client: StudioClient, double: StudioDouble, root: Path
) -> None:
    made = init_glances(workspace, client, Serving(document_root=root))
    assert (made.created, made.added, made.known, made.skipped) == (True, 2, 0, [])
    data = {task["data"]["video_id"]: task["data"] for task in double.tasks[made.project_id]}
    assert data["steady"]["fps"] == "25"
    assert float(data["odd"]["fps"]) == pytest.approx(float(NTSC), rel=1e-9)
    assert data["odd"]["video"] == "/data/local-files/?d=back%20yard/%C3%BCn%C3%AFque%20%26%20odd.mp4"
    assert sorted(storage["path"] for storage in double.storages) == [str(root / "back yard"), str(root / "gate")]
    interface = read_interface(double.projects[made.project_id]["label_config"], "the project")
    assert interface.rate == "$fps"
    assert {"Robbery", ABNORMAL, "Ignore"} <= set(interface.labels)
    assert "Normal" not in interface.labels


def test_again_only_new_videos_are_added(
    workspace: Workspace, client: StudioClient, double: StudioDouble, root: Path
) -> None:
    serving = Serving(document_root=root)
    first = init_glances(workspace, client, serving)
    again = init_glances(workspace, client, serving)
    assert (again.project_id, again.created, again.added, again.known) == (first.project_id, False, 0, 2)
    add(workspace, film("late", root / "gate/steady.mp4"))
    later = init_glances(workspace, client, serving)
    assert (later.added, later.known, len(double.tasks[first.project_id]), len(double.storages)) == (1, 2, 3, 2)


def test_a_project_whose_number_was_never_noted_is_found_again(
    workspace: Workspace, client: StudioClient, double: StudioDouble, root: Path
) -> None:
    def fail_at_import(_method: str, path: str) -> Reply | None:
        return Reply(status=503) if path.endswith("/import") else None

    double.trouble = fail_at_import
    with pytest.raises(UnavailableError, match="import 2 tasks"):
        init_glances(workspace, client, Serving(document_root=root))
    workspace.storage.local_path("labelstudio/glance_project.json").unlink()
    double.trouble = lambda _method, _path: None
    mended = init_glances(workspace, client, Serving(document_root=root))
    assert (mended.created, mended.added, len(double.projects)) == (False, 2, 1)


def test_a_title_is_no_longer_than_the_server_takes(
    client: StudioClient, double: StudioDouble, root: Path, tmp_path: Path
) -> None:
    long = Workspace(str(tmp_path / f"{'crossing ' * 9}north"))
    add(long, film("steady", root / "gate/steady.mp4", "Robbery"))
    serving = Serving(document_root=root)
    first = init_glances(long, client, serving)
    title = double.projects[first.project_id]["title"]
    assert len(title) <= 50
    assert title.startswith("Glances: ...")
    assert title.endswith("crossing north")
    long.storage.local_path("labelstudio/glance_project.json").unlink()
    assert init_glances(long, client, serving).project_id == first.project_id
    with pytest.raises(SetupError, match="has 51 characters; Label Studio takes up to 50"):
        init_glances(long, client, serving, title="x" * 51)
    assert len(double.projects) == 1


def test_videos_that_cannot_be_shown_are_named_and_the_others_go_on(
    workspace: Workspace, client: StudioClient, double: StudioDouble, root: Path, tmp_path: Path
) -> None:
    add(workspace, film("outside", write_film(tmp_path / "x.mp4", list(range(5)), Fraction(1, 25), Fraction(25))))
    (root / "gate/broken.mp4").write_bytes(b"no video")
    add(workspace, film("broken", root / "gate/broken.mp4"))
    made = init_glances(workspace, client, Serving(document_root=root))
    assert made.added == 2
    faults = {video_id: fault.reason for video_id, fault in made.skipped}
    assert faults.keys() == {"outside", "broken"}
    assert faults["outside"] is Reason.NOT_A_FILE


def test_videos_of_a_bucket_have_its_address(root: Path) -> None:
    serving = Serving(url_prefix="s3://films/2026/", video_root=root)
    assert serving.address_of(str(root / "gate/steady.mp4")) == "s3://films/2026/gate/steady.mp4"
    assert serving.address_of("https://elsewhere/x.mp4") == "https://elsewhere/x.mp4"
    with pytest.raises(RecordError, match="outside the folder that is served"):
        serving.address_of("/somewhere/else.mp4")


@pytest.mark.parametrize("how", [{}, {"document_root": Path(), "url_prefix": "s3://b", "video_root": Path()}])
def test_one_way_of_serving_is_named(how: dict[str, Path]) -> None:
    with pytest.raises(SetupError, match="name one"):
        Serving(**how)  # type: ignore[arg-type]


def test_an_interface_that_would_shift_clicks_is_refused(
    workspace: Workspace, client: StudioClient, double: StudioDouble, root: Path
) -> None:
    number = double.add_project(glance_config(["Robbery"]).replace('frameRate="$fps" ', ""))
    with pytest.raises(SetupError, match="names no frameRate; clicks would be shifted"):
        init_glances(workspace, client, Serving(document_root=root), project_id=number)
    assert double.tasks[number] == []


def test_without_videos_there_is_nothing_to_click(client: StudioClient, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no ingested videos"):
        init_glances(Workspace(str(tmp_path / "empty")), client, Serving(document_root=tmp_path))


def test_the_note_of_another_server_is_not_followed(workspace: Workspace, client: StudioClient, root: Path) -> None:
    workspace.write_json("labelstudio/glance_project.json", {"url": "http://elsewhere", "project": 1})
    with pytest.raises(SetupError, match="the project is on http://elsewhere"):
        init_glances(workspace, client, Serving(document_root=root))
