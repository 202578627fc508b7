"""The order in which H.264 pictures are shown, read from the headers of their slices (ITU-T H.264, 7.3 and 8.2.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_UNIT = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_SLICE, _IDR_SLICE, _SPS, _PPS = 1, 5, 7, 8

_HEADER_BYTES = 40
"""Of a slice, more than come before its place in the order."""

_PARAMETER_BYTES = 1024

_COUNT_AT = 5
"""Where the header of a stream from an MP4 file tells how many parameter sets it holds."""

_WITH_CHROMA = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 144, 244})
"""Profiles that state how colours are coded."""

_MAX_STEP_BACK = 128
"""A picture that is shown so many fields before the last one begins a new period: what began it is lost."""


@dataclass(frozen=True, slots=True)
class _Parameters:
    frame_num_bits: int
    lsb_bits: int
    has_colour_planes: bool
    may_be_fields: bool


class PictureOrder:
    """Tells of the packets of a stream, in decode order, where each is shown among the others."""

    def __init__(self, header: bytes) -> None:
        self._sequences: dict[int, _Parameters | None] = {}
        self._sequence_of: dict[int, int] = {}
        self._period = self._reference = self._last = 0
        # Of streams from MP4 files (ISO/IEC 14496-15, 5.3.3), units begin with their length instead of a start code.
        self._length_bytes = 0
        if header[:1] == b"\1" and len(header) > _COUNT_AT:
            self._length_bytes = 2
            for content in _units_of_avcc(header):
                self.place_of(content)
            self._length_bytes = (header[4] & 3) + 1
        else:
            self.place_of(header)

    def place_of(self, content: bytes) -> tuple[int, int] | None:
        """Return the place of the next packet, by which packets sort; None where it cannot be told."""
        try:
            for start in self._starts_of_units(content):
                kind = content[start - 1] & 31
                if kind == _SPS:
                    self._take_sequence(_Bits(content[start : start + _PARAMETER_BYTES]))
                elif kind == _PPS:
                    bits = _Bits(content[start : start + _PARAMETER_BYTES])
                    self._sequence_of[bits.number()] = bits.number()
                elif kind in {_SLICE, _IDR_SLICE}:
                    bits = _Bits(content[start : start + _HEADER_BYTES])
                    return self._place(bits, is_idr=kind == _IDR_SLICE, is_reference=bool(content[start - 1] & 0x60))
        except (LookupError, ValueError):
            pass
        return None

    def _starts_of_units(self, content: bytes) -> Iterator[int]:
        if not self._length_bytes:
            yield from (unit.end() for unit in _UNIT.finditer(content))
            return
        at = 0
        while at + self._length_bytes < len(content):
            start = at + self._length_bytes
            yield start + 1
            at = start + int.from_bytes(content[at:start], "big")

    def _place(self, bits: _Bits, *, is_idr: bool, is_reference: bool) -> tuple[int, int] | None:
        bits.number()  # first macroblock
        bits.number()  # kind of slice
        sequence = self._sequences[self._sequence_of[bits.number()]]
        if sequence is None:
            return None
        bits.take(2 * sequence.has_colour_planes + sequence.frame_num_bits)
        if sequence.may_be_fields and bits.take(1):
            bits.take(1)  # the lower field
        if is_idr:
            bits.number()
            self._period += 1
            self._reference = self._last = 0
        wrap = 1 << sequence.lsb_bits
        # The rest of a division by `wrap` is stated; the count is the nearest to that of the last reference.
        count = self._reference + (bits.take(sequence.lsb_bits) - self._reference + wrap // 2) % wrap - wrap // 2
        if count < self._last - _MAX_STEP_BACK:
            self._period += 1
        self._last = count
        if is_reference:
            self._reference = count
        return self._period, count

    def _take_sequence(self, bits: _Bits) -> None:
        profile = bits.take(24) >> 16
        name = bits.number()
        has_colour_planes = False
        if profile in _WITH_CHROMA:
            chroma = bits.number()
            has_colour_planes = chroma == 3 and bool(bits.take(1))
            bits.number()  # bits of luma
            bits.number()  # bits of chroma
            bits.take(1)
            if bits.take(1):
                for place in range(8 if chroma != 3 else 12):
                    if bits.take(1):
                        bits.skip_scaling_list(16 if place < 6 else 64)
        frame_num_bits = bits.number() + 4
        if bits.number() != 0:  # counted in another way
            self._sequences[name] = None
            return
        lsb_bits = bits.number() + 4
        bits.number()  # reference frames
        bits.take(1)
        bits.number()  # width
        bits.number()  # height
        self._sequences[name] = _Parameters(frame_num_bits, lsb_bits, has_colour_planes, not bits.take(1))


def _units_of_avcc(header: bytes) -> Iterator[bytes]:
    """Yield the parameter sets in the header of a stream from an MP4 file, each after its length in two bytes."""
    at = _COUNT_AT
    for mask in (0x1F, 0xFF):
        if at < len(header):
            count, at = header[at] & mask, at + 1
            for _ in range(count):
                end = at + 2 + int.from_bytes(header[at : at + 2], "big")
                yield header[at:end]
                at = end


class _Bits:
    """Reads the bits of a unit from its start on."""

    def __init__(self, content: bytes) -> None:
        content = content.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def take(self, count: int) -> int:
        """Return the number in the next bits."""
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit is cut short")
        taken = self._value >> self._left
        self._value &= (1 << self._left) - 1
        return taken

    def number(self) -> int:
        """Return the next number in Exp-Golomb code."""
        zeros = self._left - self._value.bit_length()
        self.take(zeros)
        return self.take(zeros + 1) - 1

    def skip_scaling_list(self, size: int) -> None:
        last = step = 8
        for _ in range(size):
            if step:
                code = self.number()
                step = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = step or last
