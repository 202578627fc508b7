"""Which model of transformers is loaded, what can go wrong then, and how to say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from pipeline.errors import SetupError

LOAD_FAULTS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)
"""What transformers raises for a model or processor that is not there, is malformed, or wants a package."""

_PICKLE_ENDINGS = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Which weights are loaded, in which precision and with which attention; `auto` leaves it to the model.

    Attributes:
        name: id or folder of the model, or of the base of the `adapter` in a folder.
        processor: where the processor is read from; None is `name`.
        merges: add an adapter's updates to the weights; otherwise they stay layers of their own.
        setting: what named the model, for messages.
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    attention: str = "auto"
    adapter: str | None = None
    processor: str | None = None
    merges: bool = True
    setting: str = "caption.model"
    trust_remote_code: bool = False
    allow_pickle: bool = False

    @property
    def device_setting(self) -> str:
        """What names the device, beside `setting`."""
        section, _, _ = self.setting.rpartition(".")
        return f"{section}.device" if section else "--device"

    @property
    def title(self) -> str:
        """The model as messages name it."""
        adapter = f" with adapter {self.adapter}" if self.adapter else ""
        return f"{self.setting}={self.name}{adapter}"


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
