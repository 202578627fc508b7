"""How the browser of an annotator gets at videos: as local files that the server hands out, or from an address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.video_index import stem
from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the browser gets the videos: as local files of the server, or from an address.

    Args:
        document_root: the folder that the server serves, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT there.
        url_prefix: address that stands for `video_root`, http(s):// or that of a bucket such as s3://bucket/videos.
        video_root: the folder whose inner paths follow `url_prefix`.

    Raises:
        SetupError: neither or both ways are given.
    """

    document_root: Path | None = None
    url_prefix: str | None = None
    video_root: Path | None = None

    def __post_init__(self) -> None:
        if (self.document_root is None) == (self.url_prefix is None):
            raise SetupError("videos are served either as local files (document root) or from a URL prefix: name one")
        if (self.url_prefix is None) != (self.video_root is None):
            raise SetupError("a URL prefix and the folder of videos that it stands for belong together: name both")

    def address_of(self, path: str) -> str:
        """Return what a task's data says of where the file is. A file at a URL keeps it.

        Raises:
            RecordError: NOT_A_FILE, the file lies outside the folder that is served.
        """
        if "://" in path:
            return path
        if self.document_root is not None:
            return f"/data/local-files/?d={quote(_inside(path, self.document_root))}"
        return f"{str(self.url_prefix).rstrip('/')}/{quote(_inside(path, Path(self.video_root or '')))}"

    def open_folders(self, client: StudioClient, project_id: int, paths: Iterable[str]) -> None:
        """Connect the folders of local files as storage, without which the server hands out none of them.

        Raises:
            SetupError: a file lies in the document root itself, of which the server serves subfolders only.
            UnavailableError: as `StudioClient.explained`.
        """
        local = [path for path in paths if "://" not in path]
        if self.document_root is None or not local:
            return
        root = self.document_root.resolve()
        tops = {Path(_inside(path, root)).parts[0] for path in local}
        with client.explained("list the local storages"):
            present = {storage.path for storage in client.sdk.import_storage.local.list(project=project_id)}
        for top in sorted(tops):
            path = str(root / top)
            if (root / top).is_file():
                raise SetupError(
                    f"{path}: Label Studio serves no file that lies in its document root itself: use a subfolder"
                )
            if path not in present:
                with client.explained(f"connect {path} as local storage"):
                    client.sdk.import_storage.local.create(
                        project=project_id,
                        path=path,
                        title=f"videos in {stem(top)}",
                        use_blob_urls=True,
                        request_options=ONE_TRY,
                    )


def _inside(name: str, root: Path) -> str:
    """Return the path of a file inside a folder, with forward slashes."""
    for path, folder in ((Path(name).absolute(), root.absolute()), (Path(name).resolve(), root.resolve())):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    raise RecordError(Reason.NOT_A_FILE, f"{name} lies outside the folder that is served, {root}")
