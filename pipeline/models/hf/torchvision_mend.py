"""torchvision beside a torch build that its compiled part was not made for.

On a machine without CUDA libraries torchvision's operators cannot load, and its import then fails on two declarations
of operators that nothing here calls, taking all of transformers with it. Declaring the two operators, without any code
behind them, is enough for the import; video processors need only torchvision's transforms, which are plain torch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_MISSING = "operator torchvision::"


@functools.cache
def mend_torchvision() -> Any:
    """Make `import torchvision` work; call it before the first import of transformers in a process.

    On a healthy install this is that import and nothing else; without torchvision it does nothing. Returns the library
    of declared operators, which must stay alive, or None.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError as fault:
        if _MISSING not in str(fault):
            raise
    else:
        return None
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    declared = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        declared.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    importlib.import_module("torchvision")
    return declared
