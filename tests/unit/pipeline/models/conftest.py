"""Requests to synthesize, and an environment that names no endpoint."""

from __future__ import annotations

from synthesis_fixtures import no_endpoint, requests

__all__ = ["no_endpoint", "requests"]
