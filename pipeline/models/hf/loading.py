"""What can go wrong when a model of transformers is loaded, and how to say it."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import SetupError

LOAD_FAULTS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)
"""What transformers raises for a model or processor that is not there, is malformed, or wants a package."""

_PICKLE_ENDINGS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def check_folder(model: str, setting: str) -> None:
    """Refuse a path that leads nowhere: the hub would answer that it makes a bad repository id.

    Raises:
        SetupError: there is no such folder; `setting` is what names the model in the configuration.
    """
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        raise SetupError(f"{setting}={model}: no such folder")


def check_weights(model: str, setting: str, *, allow_pickle: bool) -> None:
    """Refuse a folder whose only weights are pickle files, which can run code when they are read.

    Raises:
        SetupError: naming such a file.
    """
    folder = Path(model)
    if allow_pickle or not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path for ending in _PICKLE_ENDINGS for path in folder.glob(ending))
    if pickled:
        raise SetupError(
            f"{setting}={model}: its weights are a pickle file ({pickled[0].name}), which can run code when it is "
            "read: allow_pickle permits it"
        )


def explain_load_fault(fault: BaseException, model: str, setting: str) -> SetupError:
    """Return the error that says why a model or processor cannot be loaded."""
    if "trust_remote_code" in str(fault):
        return SetupError(f"{setting}={model}: comes with code of its own: trust_remote_code permits running it")
    if "out of memory" in str(fault):
        return SetupError(f"{setting}={model}: does not fit into memory: {first_line(fault)}")
    return SetupError(f"{setting}={model}: cannot be loaded: {first_line(fault)}")


def first_line(fault: BaseException) -> str:
    """Return the first line of a fault's message that says something, or the fault's name."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
