"""A workspace whose tables are filled."""

from __future__ import annotations

from dataset_fixtures import _no_figures_unasked, figures, fill, write_clip

__all__ = ["_no_figures_unasked", "figures", "fill", "write_clip"]
