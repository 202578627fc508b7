"""What detection is tested with."""

from __future__ import annotations

from detection_fixtures import calm_video, event_video, sampler_folder, scripted

__all__ = ["calm_video", "event_video", "sampler_folder", "scripted"]
