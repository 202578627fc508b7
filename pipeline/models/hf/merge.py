"""An adapter and its base as one model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from pipeline.errors import SetupError
from pipeline.models.hf.adapter import FACTS_FILE, apply_adapter
from pipeline.models.hf.inputs import read_processor
from pipeline.models.hf.model import find_source, read_weights
from pipeline.storage import TEMPORARY, describe_os_error, open_to_readers, swap_in


def merge_adapter(
    adapter: str,
    base: str | None,
    out: Path,
    *,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Path:
    """Write base and adapter as one model with its processor into a new or empty folder, and return the folder.

    Where no base is named it is the one that the adapter was trained on; the dtype auto is that of the base's files.

    Raises:
        SetupError: there is no adapter, it does not fit onto the base, `out` holds files, or the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SetupError(f"{out}: there are files already: choose another folder")
    source = find_source(
        adapter, base, setting="ADAPTER", trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )
    if source.adapter is None:
        raise SetupError(f"{adapter}: no adapter there")
    model = read_weights(replace(source, setting="--model-base"), dtype)
    merged = apply_adapter(model, Path(adapter), allow_pickle=allow_pickle)
    processor = read_processor(source)
    new = out.with_name(f"{TEMPORARY}{out.name}")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        merged.save_pretrained(new)
        processor.save_pretrained(new)
        facts = Path(adapter) / FACTS_FILE
        if facts.is_file():
            shutil.copy(facts, new)
        open_to_readers(new)
        swap_in(new, out, out.with_name(f"{TEMPORARY}old-{out.name}"))
    except OSError as fault:
        shutil.rmtree(new, ignore_errors=True)
        raise SetupError(f"{out}: not written: {describe_os_error(fault)}") from None
    return out
