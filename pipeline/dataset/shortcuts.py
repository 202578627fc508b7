"""Whether a label can be told without looking: by a clip's length, place or file, or by where its video comes from.

A model learns what is easiest to learn. Where abnormal clips are shorter than normal ones or come from another camera,
it learns lengths and cameras, and is right in this dataset and nowhere else.

The clips of a video are alike in all this: a video counts once for each side that it has clips of, with their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as pads

from pipeline.dataset import layout
from pipeline.records import NORMAL
from pipeline.workspace import Workspace, is_workspace

MAX_AUC = 0.6
"""How well one trait may tell the sides apart; 0.5 is not at all."""

MIN_VIDEOS = 10
"""Videos of each side without which nothing is said: of fewer, even a perfect order is too often chance."""

MAX_CHANCE = 0.001
"""How probable such an order may be where the trait says nothing: there are several traits to be unlucky with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """A trait that tells the sides apart; `chance` is the probability of that order if it told nothing."""

    trait: str
    auc: float
    abnormal_videos: int
    normal_videos: int
    chance: float

    def __str__(self) -> str:
        """Say it in a line."""
        chance = "less than 1 in a million" if self.chance < 1e-6 else f"{self.chance:.1g}"
        return (
            f"{self.trait} alone tells abnormal from normal: AUC {self.auc:.2f} over {self.abnormal_videos} abnormal "
            f"and {self.normal_videos} normal videos; by chance: {chance}"
        )


def find_shortcuts(folder: Path) -> list[Shortcut]:
    """Return the traits by which the clips of a dataset give their label away, the plainest first.

    Where the dataset lies in its workspace, that tells places, frame rates, picture sizes and sources as well.
    """
    clips = _read_clips(folder)
    traits: dict[str, pd.Series[float]] = {"length": _mean(clips, clips["end_s"] - clips["start_s"])}
    own_files = clips["path"].str.startswith(layout.CLIP_FOLDER)
    if own_files.all() and len(clips):
        files = (folder / path for path in clips["path"])
        # A file that is gone is for the validation to name.
        sizes = pd.Series([file.stat().st_size if file.is_file() else math.nan for file in files])
        traits["file size per second"] = _mean(clips, sizes / (clips["end_s"] - clips["start_s"]))
    rates: dict[str, pd.Series[float]] = {}
    if is_workspace(folder.parent):
        columns = ["video_id", "duration_s", "fps", "width", "height", "source"]
        videos = Workspace(str(folder.parent.absolute())).videos.arrow(columns).to_pandas().set_index("video_id")
        middles = (clips["start_s"] + clips["end_s"]) / 2 / clips["video"].map(videos["duration_s"])
        traits["place in the video"] = _mean(clips, middles)
        traits["distance from the middle of the video"] = _mean(clips, (middles - 0.5).abs())
        kinds = {
            "frame rate": videos["fps"].round(),
            "picture size": videos["width"].astype(str) + "x" + videos["height"].astype(str),
            # Of a manifest, the row is left out.
            "source": videos["source"].str.replace(r":\d+$", "", regex=True),
        }
        rates = {name: _rate_of_others(clips, clips["video"].map(kind)) for name, kind in kinds.items()}
    found = [_tell_apart(name, values) for name, values in traits.items()]
    found += [_tell_apart(name, values, only_rising=True) for name, values in rates.items()]
    return sorted((one for one in found if one is not None), key=lambda one: -one.auc)


def _read_clips(folder: Path) -> pd.DataFrame:
    """Return a row a clip: video, start_s, end_s, path, is_abnormal."""
    shards = [str(shard.path) for shard in layout.list_shards(folder)[0]]
    wanted = {
        "video": pc.field("source_video"), "start_s": pc.field("start_s"), "end_s": pc.field("end_s"),
        "path": pc.field("video", "path"), "is_abnormal": pc.field("label") != NORMAL,
    }  # fmt: skip
    rows = pads.dataset(shards, format="parquet", schema=layout.schema()).to_table(columns=wanted)
    clips: pd.DataFrame = rows.group_by(list(wanted)).aggregate([]).to_pandas()
    return clips


def _mean(clips: pd.DataFrame, values: pd.Series[float]) -> pd.Series[float]:
    # Rounded, since what differs by the last bit of a sum does not differ.
    return values.groupby([clips["video"], clips["is_abnormal"]]).mean().round(6)


def _rate_of_others(clips: pd.DataFrame, kinds: pd.Series[str]) -> pd.Series[float]:
    """Return for each video the share of abnormal ones among the other videos of its kind, of a lone one that of all.

    Leaving the video itself out keeps a kind of its own for each video from telling everything. Where kinds tell
    nothing, it puts abnormal videos a little lower than normal ones.
    """
    of_kind = kinds.groupby([clips["video"], clips["is_abnormal"]]).first()
    abnormal = of_kind.index.get_level_values("is_abnormal").to_series(index=of_kind.index).astype(float)
    grouped = abnormal.groupby(of_kind)
    others = (grouped.transform("sum") - abnormal) / (grouped.transform("count") - 1)
    return others.where(grouped.transform("count") > 1, abnormal.mean())


def _tell_apart(trait: str, values: pd.Series[float], *, only_rising: bool = False) -> Shortcut | None:
    """Return a trait by which the sides differ more than by chance, after Mann and Whitney, ties counted half.

    With `only_rising`, lower values of the abnormal side are none.
    """
    values = values.dropna()
    is_abnormal = values.index.get_level_values("is_abnormal").to_numpy(bool)
    num, abnormal = len(values), int(is_abnormal.sum())
    normal = num - abnormal
    if min(abnormal, normal) < MIN_VIDEOS:
        return None
    wins = float(values.rank()[is_abnormal].sum()) - abnormal * (abnormal + 1) / 2
    pairs = abnormal * normal
    ties = values.value_counts()
    variance = pairs / 12 * (num + 1 - float((ties**3 - ties).sum()) / (num * (num - 1)))
    if variance <= 0:
        return None
    chance = math.erfc(abs(wins - pairs / 2) / math.sqrt(2 * variance))
    auc = (wins if only_rising else max(wins, pairs - wins)) / pairs
    if auc <= MAX_AUC or chance > MAX_CHANCE:
        return None
    return Shortcut(trait=trait, auc=auc, abnormal_videos=abnormal, normal_videos=normal, chance=chance)
