"""The dataset card: README.md with the YAML header that Hugging Face `datasets` and the hub read, and its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import ExportConfig
from pipeline.dataset import layout
from pipeline.dataset.writer import WrittenShard
from pipeline.records import NORMAL
from pipeline.resources import DATASETS

TEMPLATE = DATASETS / "card.md.j2"

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(
    folder: Path,
    stats: Mapping[str, Any],
    shards: Sequence[WrittenShard],
    config: ExportConfig,
    *,
    title: str,
    clips_files: str,
    features: Any = None,
) -> None:
    """Write README.md and figures/ into a dataset folder whose shards are finished.

    `clips_files` is `encode`, `reference`, or `none` where there is no footage; `features` are the Hugging Face
    features of the columns, None those of a dataset.
    """
    import jinja2

    draw_figures(folder / "figures", stats)
    environment = jinja2.Environment(  # noqa: S701 - the card is Markdown, not HTML
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = template.render(
        header=_header(folder, stats, shards, config, title=title, features=features or layout.features()),
        title=title,
        stats=stats,
        normal=NORMAL,
        clips_files=clips_files,
        embedded=config.embed_videos,
        example=_example(folder),
    )
    (folder / layout.CARD).write_text(text, encoding="utf-8")


def draw_figures(folder: Path, stats: Mapping[str, Any]) -> None:
    """Draw class balance, clip lengths and answer lengths as PNG files."""
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)

    def save(figure: Figure, name: str) -> None:
        # The software's version is left out of the file: equal data must give equal bytes.
        figure.savefig(folder / name, dpi=110, metadata={"Software": None})

    labels = stats["labels"]
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(labels)), layout="constrained")
    axes = figure.subplots()
    colors = [_COLORS["normal" if label == NORMAL else "abnormal"] for label in labels]
    # An escaped dollar is one, and no beginning of mathematics.
    names = [label.replace("$", r"\$") for label in labels]
    bars = axes.barh(names, [counts["clips"] for counts in labels.values()], color=colors)
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.set(title="Class balance", xlabel="clips")
    _unframe(axes)
    save(figure, "class_balance.png")
    for key, name, title, unit, counted in (
        ("clip_length_s", "clip_lengths", "Clip lengths", "seconds", "clips"),
        ("answer_words", "answer_lengths", "Answer lengths", "words", "answers"),
    ):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for side, color in _COLORS.items():
            if stats[key][side]["count"]:
                counts = stats[key][side]["histogram"]
                axes.stairs(counts, stats[key]["bin_edges"], color=color, fill=True, alpha=0.45, label=side)
        axes.set(title=title, xlabel=unit, ylabel=counted)
        axes.legend(frameon=False)
        _unframe(axes)
        save(figure, f"{name}.png")


_COLORS = {"abnormal": "#c2512e", "normal": "#2f6f8f"}


def _unframe(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _header(
    folder: Path,
    stats: Mapping[str, Any],
    shards: Sequence[WrittenShard],
    config: ExportConfig,
    *,
    title: str,
    features: Any,
) -> str:
    from datasets import DatasetInfo, SplitDict
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    card = DatasetCardData(
        pretty_name=title,
        license=config.license,
        language="en",
        task_categories=["video-text-to-text", "video-classification"],
        tags=["video-anomaly-detection", "surveillance", "instruction-tuning", "video"],
        size_categories=[next((name for limit, name in _SIZES if stats["rows"] < limit), "n>1M")],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in stats["splits"]],
            }
        ],
    )
    splits = {}
    for split, counts in stats["splits"].items():
        size = sum(shard.uncompressed_bytes for shard in shards if shard.name.startswith(f"{split}-"))
        splits[split] = {"name": split, "num_bytes": size, "num_examples": counts["rows"]}
    info = DatasetInfo(
        features=features,
        splits=SplitDict.from_split_dict(splits),
        dataset_size=sum(shard.uncompressed_bytes for shard in shards),
        download_size=sum((folder / "data" / shard.name).stat().st_size for shard in shards),
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(card)
    return str(card.to_yaml())


def _example(folder: Path) -> str:
    """Return the chat of the first abnormal row, or of the first row, as JSON for people."""
    columns = ["is_anomaly", "messages"]
    abnormal = (row for row in layout.read_rows(folder, columns=columns) if row["is_anomaly"])
    turns = (next(abnormal, None) or next(layout.read_rows(folder, columns=columns)))["messages"]
    for turn in turns:
        turn["content"] = [{key: value for key, value in part.items() if value is not None} for part in turn["content"]]
    return json.dumps(turns, indent=2, ensure_ascii=False)


def _cell(value: object) -> str:
    """Return a value fit for a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
