"""A workspace whose tables are filled, and requests to synthesize."""

from __future__ import annotations

from dataset_fixtures import _no_figures_unasked, figures, fill, write_clip
from synthesis_fixtures import no_endpoint, requests

__all__ = ["_no_figures_unasked", "figures", "fill", "no_endpoint", "requests", "write_clip"]
