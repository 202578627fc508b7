"""Find the ingested video that a foreign name means.

Annotation files name videos by id, by file name with or without suffix, by a path of another machine (Windows ones too)
or by a URL of an annotation tool. Names match by their last component; folders only tell equal names apart. Where no
name is spelt so, one that differs in case, or in what Label Studio changes of an uploaded name, is meant if it is the
only one.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from urllib.parse import unquote

from annotation.source import show
from pipeline.errors import RecordError
from pipeline.records import Reason, Video
from pipeline.stages.listing import VIDEO_SUFFIXES

_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOCAL_FILES = re.compile(r"^(?:[a-z]+://[^/]+)?/?data/local-files/?\?(?:.*&)?d=(?P<path>[^&]+)", re.IGNORECASE)
# what Label Studio makes of an address in a bucket that it is connected to
_RESOLVED = re.compile(r"/resolve/?\?(?:.*&)?fileuri=(?P<uri>[\w+/=%-]+)")
# Label Studio puts eight hex digits before the name of a file that was uploaded to it
_UPLOADED = re.compile(r"(?:^|/)data/upload/(?:.*/)?[0-9a-f]{8}-(?P<name>[^/]+)$")
_NEIGHBOURS = 16

# 01.02.2026, 2026-02-01, 1-Feb, Feb-26, 1. Feb
_DATE = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}-\d\d-\d\d(?: 00:00(?::00)?)?"
    r"|\d{1,2}[-. ]+[^\W\d_]{3,4}\.?|[^\W\d_]{3,4}[-. ]+\d{1,4}"
)
_ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d+", re.IGNORECASE)


def is_video_path(text: str) -> bool:
    """Whether a text reads like the path or URL of a video file."""
    name = text.split("?", 1)[0] if _URL.match(text) else text
    return "\n" not in text and PurePosixPath(name.strip()).suffix.lower() in VIDEO_SUFFIXES


def split_path(text: str) -> tuple[str, ...]:
    """Return the components of a path or URL, decoded and in Unicode form C, the file name last."""
    path = text.strip()
    if resolved := _RESOLVED.search(path):
        with contextlib.suppress(ValueError):
            path = base64.b64decode(unquote(resolved["uri"]), altchars=b"-_", validate=True).decode()
    if local := _LOCAL_FILES.match(path):
        path = unquote(local["path"])
    elif _URL.match(path):
        # a query (a signature, say) is cut off; a # stays: names of XD-Violence hold one
        path = unquote(_URL.sub("", path).split("?", 1)[0])
    if uploaded := _UPLOADED.search(path):
        path = uploaded["name"]
    parts = unicodedata.normalize("NFC", path.replace("\\", "/")).split("/")
    return tuple(part for part in parts if part not in {"", "."})


def stem(name: str) -> str:
    """Return a file name without its suffix, where that is one of video files: other names may hold dots."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else name


def video_name(text: str) -> str:
    """Return what a path or URL calls the video: its file name, without folders and suffix."""
    parts = split_path(text)
    return stem(parts[-1]) if parts else text


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file that an annotation may mean; `video` is None for one that was not ingested."""

    video: Video | None
    path: str
    parts: tuple[str, ...]


class VideoIndex:
    """The ingested videos, by every name that an annotation may use for them.

    Args:
        videos: the ingested videos.
        rejected: paths of files that were offered but not ingested. An annotation of one of them must not fall to a
            video of the same name in another folder.
    """

    def __init__(self, videos: Iterable[Video], rejected: Iterable[str] = ()) -> None:
        self.labels: set[str] = set()
        self._by_id: dict[str, Video] = {}
        self._by_stem: defaultdict[str, list[_Entry]] = defaultdict(list)
        self._by_loose_stem: defaultdict[str, list[_Entry]] = defaultdict(list)
        for video in videos:
            self._by_id[video.video_id] = video
            if video.label is not None:
                self.labels.add(video.label)
            path = video.path or video.video_id
            self._add(_Entry(video, path, split_path(path)), video.video_id)
        ingested = {video.path for video in self._by_id.values()}
        for path in set(rejected) - ingested:
            self._add(_Entry(None, path, split_path(path)), path)
        self._names = sorted(self._by_stem)
        self._reversed_names = sorted(name[::-1] for name in self._by_stem)

    def find(self, name: str, paths: Sequence[str] = ()) -> Video:
        """Return the video called `name`, or lying at one of `paths`, which also tell videos of one name apart.

        An exact video id wins; then what the paths say, the first one first; then the name's own last component.

        Raises:
            RecordError: MISSING_VIDEO, with the nearest name; AMBIGUOUS_VIDEO, with the candidates.
        """
        if name in self._by_id:
            return self._by_id[name]
        texts = (*paths, name)
        ways = (self._of_upload, self._spelt_so, self._spelt_alike)
        candidates = next(filter(None, (way(text) for way in ways for text in texts)), [])
        if not candidates:
            raise RecordError(Reason.MISSING_VIDEO, f"no ingested video is called {show(name)}{self._hint(name)}")
        for text in texts:
            candidates = _narrow(candidates, split_path(text))
        if len(candidates) > 1:
            listed = ", ".join(sorted(entry.path for entry in candidates)[:5])
            raise RecordError(Reason.AMBIGUOUS_VIDEO, f"{show(name)} can be any of {len(candidates)}: {listed}")
        if candidates[0].video is None:
            raise RecordError(Reason.MISSING_VIDEO, f"{show(name)} was not ingested: {candidates[0].path} was rejected")
        return candidates[0].video

    def _add(self, entry: _Entry, name: str) -> None:
        names = {video_name(name), stem(entry.parts[-1]) if entry.parts else ""}
        for spelling in names - {""}:
            self._by_stem[spelling].append(entry)
        for spelling in set(map(_loose, names)) - {""}:
            self._by_loose_stem[spelling].append(entry)

    def _of_upload(self, text: str) -> list[_Entry]:
        """Return what an uploaded file may have been called: two names can become one."""
        if not _UPLOADED.search(text):
            return []
        name = video_name(text)
        alike = self._spelt_alike(text)
        return [entry for entry in alike if name in (_valid(stem(entry.parts[-1])), stem(entry.parts[-1]))]

    def _spelt_so(self, text: str) -> list[_Entry]:
        return self._by_stem.get(video_name(text)) or self._by_stem.get(video_name(unquote(text))) or []

    def _spelt_alike(self, text: str) -> list[_Entry]:
        return self._by_loose_stem.get(_loose(video_name(text)), [])

    def _hint(self, name: str) -> str:
        """Suggest the name that is spelt most like `name`, among those that begin or end most like it."""
        if _DATE.fullmatch(name) or _ROUNDED.fullmatch(name):
            return ": did a spreadsheet make that of a name such as 1-2 or 120000000001? Its column has to be text"
        key = video_name(name)
        near = _around(self._names, key)
        near |= {reverse[::-1] for reverse in _around(self._reversed_names, key[::-1])}
        best = difflib.get_close_matches(key, sorted(near), n=1)
        return f"; the nearest name is {best[0]}" if best else f"; {len(self._by_id)} video(s) are known"


def _narrow(candidates: list[_Entry], parts: tuple[str, ...]) -> list[_Entry]:
    """Keep the candidates whose path agrees best with `parts`; a path that tells nothing keeps them all."""
    agreement = [_agreement(entry.parts, parts) for entry in candidates]
    return [entry for entry, score in zip(candidates, agreement, strict=True) if score == max(agreement)]


def _agreement(path: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Count the equal folders before file names of one stem, and half for an equal suffix; 0 for other file names."""
    if not path or not other or _loose(stem(path[-1])) != _loose(stem(other[-1])):
        return 0
    folders = takewhile(lambda pair: pair[0] == pair[1], zip(path[-2::-1], other[-2::-1], strict=False))
    suffixes = {name.removeprefix(stem(name)) for name in (path[-1], other[-1])}
    return len(list(folders)) + 0.5 * (len(suffixes) == 1)


def _valid(name: str) -> str:
    """Return what Label Studio makes of the name of an uploaded file."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _loose(name: str) -> str:
    return _valid(name).casefold()


def _around(names: list[str], key: str) -> set[str]:
    place = bisect.bisect_left(names, key)
    return set(names[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS])
