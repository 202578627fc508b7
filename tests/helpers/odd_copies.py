"""Copies of films as recorders leave them: with packets left out, changed, or at other times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av


def unchanged(_place: int, content: bytes) -> bytes:
    return content


def copy_odd(
    source: Path,
    target: Path,
    *,
    keep: Callable[[int], bool] = lambda _: True,
    change: Callable[[int, bytes], bytes] = unchanged,
    later_s: Callable[[int], float] = lambda _: 0.0,
) -> Path:
    """Copy the packets for whose place `keep` says so, changed by `change` and moved by `later_s`."""
    with av.open(str(source)) as given, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for place, packet in enumerate(given.demux(given.streams.video[0])):
            if packet.size and keep(place):
                copy = av.Packet(change(place, bytes(packet)))
                assert packet.time_base is not None
                ticks = round(later_s(place) / packet.time_base)
                copy.pts, copy.dts = (None if time is None else time + ticks for time in (packet.pts, packet.dts))
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                output.mux(copy)
    return target


def zeros_at(places: range) -> Callable[[int, bytes], bytes]:
    """Return a change that overwrites the packets at `places` with zeros."""
    return lambda place, content: bytes(len(content)) if place in places else content
