"""Uploads to the Hugging Face Hub; the token is that of `hf auth login`, or of HF_TOKEN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.dataset import layout, publication
from pipeline.errors import DataError, HolmesError, SetupError

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoUrl

Kind = Literal["dataset", "adapter", "sampler"]

_UNFINISHED = ("*.tmp", "_*", "checkpoints/*", ".*")
_LICENCE = "other"


def push_folder(folder: Path, repo: str, *, private: bool, revision: str | None, message: str) -> tuple[Kind, str]:
    """Upload a folder and return what it is and the address of its repository.

    Files that are there already are not sent again, so an interrupted upload goes on where it was.

    Raises:
        DataError: the folder is none of those, or its rows refer to files that would stay behind.
        SetupError: the hub refuses, or cannot be reached.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    kind, source = _kind_of(folder)
    api = HfApi()
    try:
        made = api.create_repo(
            repo, repo_type="dataset" if kind == "dataset" else "model", private=private, exist_ok=True
        )
        if revision is not None:
            api.create_branch(made.repo_id, repo_type=made.repo_type, branch=revision, exist_ok=True)
        _upload(api, source, made, kind, revision=revision, message=message)
    except (HFValidationError, LocalTokenNotFoundError) as fault:
        raise SetupError(f"{repo}: {fault}") from None
    except HfHubHTTPError as fault:
        status = fault.response.status_code if fault.response is not None else "no"
        cure = (
            "; log in with `hf auth login`, or set HF_TOKEN to a token that may write" if status in (401, 403) else ""
        )
        raise SetupError(f"{repo}: the hub answers {status}: {fault.server_message or fault}{cure}") from None
    except (httpx.HTTPError, OSError) as fault:
        raise SetupError(f"{repo}: the upload stopped ({fault}); run the command again to go on") from None
    return kind, str(made)


def _upload(api: HfApi, source: Path, repo: RepoUrl, kind: Kind, *, revision: str | None, message: str) -> None:
    if kind != "dataset" and not (source / layout.CARD).is_file():
        # Before the weights: a repository without a card says nothing of what is in it.
        card = _model_card(kind, source, repo.repo_id).encode()
        api.upload_file(
            path_or_fileobj=card, path_in_repo=layout.CARD, repo_id=repo.repo_id, repo_type=repo.repo_type,
            revision=revision, commit_message=message,
        )  # fmt: skip
    api.upload_folder(
        repo_id=repo.repo_id, repo_type=repo.repo_type, folder_path=source, revision=revision, commit_message=message,
        ignore_patterns=list(_UNFINISHED),
        # Shards of an earlier dataset would be read along with those of this one.
        delete_patterns=["data/*.parquet"] if kind == "dataset" else None,
    )  # fmt: skip


def _kind_of(folder: Path) -> tuple[Kind, Path]:
    from pipeline.sampler.model_io import read_config

    if not folder.is_dir():
        raise SetupError(f"{folder}: no such folder")
    if (folder / "adapter_config.json").is_file():
        return "adapter", folder
    if read_config(folder) is not None:
        return "sampler", folder
    try:
        source = layout.dataset_folder_of(folder)
    except HolmesError:
        raise DataError(f"{folder}: neither a dataset, an adapter (adapter_config.json) nor a sampler") from None
    _require_embedded(source)
    return "dataset", source


def _require_embedded(source: Path) -> None:
    """Refuse a dataset whose clips lie beside it, but for one without footage: its rows would lead nowhere."""
    if publication.is_publication(source):
        return
    for split in layout.SPLITS:
        row = next(layout.read_rows(source, split, columns=["id", "video"]), None)
        if row is not None and row["video"]["bytes"] is None:
            raise DataError(
                f"{source}: row {row['id']}: {row['video']['path']} lies outside of the dataset; "
                "build with --set export.embed_videos=true, then push"
            )


def _model_card(kind: Kind, source: Path, repo_id: str) -> str:
    """Return the card of an adapter or a sampler: what it is, how it was made, how it is used."""
    from huggingface_hub import ModelCardData

    from pipeline.sampler.model_io import read_config

    name = repo_id.rpartition("/")[2]
    tags = ["video-anomaly-detection", "holmes-engine"]
    if kind == "sampler":
        facts, base = dict(read_config(source) or {}), None
        # hashes of the videos it has seen, which the config keeps
        facts.pop("contents", None)
        about = "A temporal sampler: it gives every part of a video an anomaly score, and marks the spans to look at."
        use = "holmes detect VIDEO --sampler FOLDER"
    else:
        facts = json.loads((source / "holmes.json").read_text(encoding="utf-8"))
        base = json.loads((source / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
        about = "A LoRA adapter of a video model that judges and explains what surveillance cameras record."
        use = f"holmes detect VIDEO --model-path FOLDER --model-base {base}"
        tags += ["lora", "peft"]
    # A base model in a local folder is none that the hub knows.
    known_base = base if base and not Path(base).exists() and not base.startswith((".", "/")) else None
    header = ModelCardData(
        license=_LICENCE, base_model=known_base, tags=tags, pipeline_tag="video-classification",
        library_name="peft" if kind == "adapter" else None,
    ).to_yaml()  # fmt: skip
    made_with = json.dumps(facts, indent=2)
    return (
        f"---\n{header}\n---\n\n# {name}\n\n{about} Made by Holmes Engine.\n\n## Use it\n\n```\n"
        f"hf download {repo_id} --local-dir FOLDER\n{use}\n```\n\n## How it was made\n\n```json\n{made_with}\n```\n"
    )
