"""The order in which pictures are shown, read from the headers of their slices.

ITU-T H.264, 7.3 and 8.2.1; ITU-T H.265 (HEVC), 7.3 and 8.3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

Content = bytes | memoryview

_UNIT = re.compile(rb"\x00\x00\x01(.)", re.DOTALL)
_SLICE, _IDR_SLICE, _SPS, _PPS = 1, 5, 7, 8

_BY_CYCLE = 1
"""Of the three ways in which pictures are counted, the one that states a cycle of steps."""

_HEADER_BYTES = 40
"""Of a slice, more than come before its place in the order."""

_PARAMETER_BYTES = 1024

_HEVC_SPS, _HEVC_PPS = 33, 34
_HEVC_SLICES, _HEVC_COMPLETE, _HEVC_BEGINS = range(32), range(16, 24), frozenset({19, 20})
"""Kinds of units with a slice, those of them at which decoding can start, and those that count from 0."""

_HEVC_NO_REFERENCE = frozenset({0, 2, 4, 6, 7, 8, 9, 10, 12, 14})
"""Kinds of pictures from which counting does not go on."""

_HEVC_PROFILE_BITS, _HEVC_LEVEL_BITS = 88, 8

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
    may_skip_references: bool = False


class PictureOrder:
    """Tells of the packets of a stream, in decode order, where each is shown among the others. This one reads H.264.

    Attributes:
        reference: the number of the last picture in the count of references, and how many numbers there are; None
            where the stream does not count without leaving any out.
        begins: the last picture needs none before it, nor does any behind it.
    """

    _length_at, _count_at = 4, 5
    """Where the header of a stream from an MP4 file says how long a length is, and how many parameter sets follow."""

    def __init__(self, header: bytes) -> None:
        self._sequences: dict[int, _Parameters] = {}
        self._sequence_of: dict[int, int] = {}
        self.reference: tuple[int, int] | None = None
        self.begins = False
        self._period = self._reference = self._last = 0
        # Of streams from MP4 files (ISO/IEC 14496-15), units begin with their length instead of a start code.
        self._length_bytes = 0
        if header[:1] == b"\1" and len(header) > self._count_at:
            self._length_bytes = 2
            for content in self._units_of_header(header):
                self.place_of(content)
            self._length_bytes = (header[self._length_at] & 3) + 1
        else:
            self.place_of(header)

    def place_of(self, content: Content) -> tuple[int, int] | None:
        """Return the place of the next packet, by which packets sort; None where it cannot be told."""
        self.begins = False
        try:
            for start in self._starts_of_units(content):
                place = self._take_unit(content, start)
                if place is not None:
                    return place
        except (LookupError, ValueError):
            pass
        return None

    def _take_unit(self, content: Content, start: int) -> tuple[int, int] | None:
        """Take the unit whose content begins at `start`, behind the first byte of its header; a slice has a place."""
        kind = content[start - 1] & 31
        if kind == _SPS:
            self._take_sequence(_Bits(content[start : start + _PARAMETER_BYTES]))
        elif kind == _PPS:
            bits = _Bits(content[start : start + _PARAMETER_BYTES])
            self._sequence_of[bits.number()] = bits.number()
        elif kind in {_SLICE, _IDR_SLICE}:
            bits = _Bits(content[start : start + _HEADER_BYTES])
            return self._place(bits, is_idr=kind == _IDR_SLICE, is_reference=bool(content[start - 1] & 0x60))
        return None

    def _units_of_header(self, header: bytes) -> Iterator[bytes]:
        """Yield the parameter sets in the header of a stream from an MP4 file, each after its length in two bytes."""
        at = self._count_at
        for mask in (0x1F, 0xFF):
            if at < len(header):
                count, at = header[at] & mask, at + 1
                for _ in range(count):
                    end = at + 2 + int.from_bytes(header[at : at + 2], "big")
                    yield header[at:end]
                    at = end

    def _starts_of_units(self, content: Content) -> Iterator[int]:
        if not self._length_bytes:
            yield from (unit.end() for unit in _UNIT.finditer(content))
            return
        at = 0
        while at + self._length_bytes < len(content):
            start = at + self._length_bytes
            yield start + 1
            at = start + int.from_bytes(content[at:start], "big")

    def _place(self, bits: _Bits, *, is_idr: bool, is_reference: bool) -> tuple[int, int]:
        self.reference = None
        bits.number()  # first macroblock
        bits.number()  # kind of slice
        sequence = self._sequences[self._sequence_of[bits.number()]]
        bits.take(2 * sequence.has_colour_planes)
        number = bits.take(sequence.frame_num_bits)
        if not sequence.may_skip_references:
            self.reference = number, 1 << sequence.frame_num_bits
        if not sequence.lsb_bits:
            raise ValueError("pictures are counted in another way")
        if sequence.may_be_fields and bits.take(1):
            bits.take(1)  # the lower field
        if is_idr:
            bits.number()
            self._begin_period()
        return self._counted(bits.take(sequence.lsb_bits), sequence.lsb_bits, is_reference=is_reference)

    def _begin_period(self) -> None:
        self._period += 1
        self._reference = self._last = 0
        self.begins = True

    def _counted(self, rest: int, lsb_bits: int, *, is_reference: bool) -> tuple[int, int]:
        """Return the place of a picture of whose count the `rest` of a division by 2**lsb_bits is stated.

        The count is the nearest to that of the last reference.
        """
        wrap = 1 << lsb_bits
        count = self._reference + (rest - self._reference + wrap // 2) % wrap - wrap // 2
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
        lsb_bits = self._lsb_bits(bits)
        bits.number()  # reference frames
        may_skip_references = bool(bits.take(1))
        bits.number()  # width
        bits.number()  # height
        may_be_fields = not bits.take(1)
        self._sequences[name] = _Parameters(
            frame_num_bits, lsb_bits, has_colour_planes, may_be_fields, may_skip_references
        )

    def _lsb_bits(self, bits: _Bits) -> int:
        """Return how many bits state the place of a picture; 0 where pictures are counted in another way."""
        kind = bits.number()
        if kind == _BY_CYCLE:
            bits.take(1)
            bits.number()
            bits.number()
            for _ in range(bits.number()):
                bits.number()
        return 0 if kind else bits.number() + 4


@dataclass(frozen=True, slots=True)
class _HevcParameters:
    sequence: int
    states_output: bool
    extra_bits: int


class HevcPictureOrder(PictureOrder):
    """The same of HEVC."""

    _length_at, _count_at = 21, 22

    def __init__(self, header: bytes) -> None:
        self._pictures: dict[int, _HevcParameters] = {}
        super().__init__(header)

    def _take_unit(self, content: Content, start: int) -> tuple[int, int] | None:
        kind, layer = content[start - 1] >> 1 & 63, content[start] & 7
        if kind == _HEVC_SPS:
            self._take_sequence(_Bits(content[start + 1 : start + _PARAMETER_BYTES]))
        elif kind == _HEVC_PPS:
            bits = _Bits(content[start + 1 : start + _PARAMETER_BYTES])
            name, sequence = bits.number(), bits.number()
            bits.take(1)
            self._pictures[name] = _HevcParameters(sequence, bool(bits.take(1)), bits.take(3))
        elif kind in _HEVC_SLICES:
            bits = _Bits(content[start + 1 : start + _HEADER_BYTES])
            return self._place_of_slice(bits, kind, is_reference=layer == 1 and kind not in _HEVC_NO_REFERENCE)
        return None

    def _place_of_slice(self, bits: _Bits, kind: int, *, is_reference: bool) -> tuple[int, int]:
        if not bits.take(1):
            raise ValueError("the first slice of the picture is missing")
        bits.take(int(kind in _HEVC_COMPLETE))
        picture = self._pictures[bits.number()]
        sequence = self._sequences[picture.sequence]
        if kind in _HEVC_BEGINS:
            self._begin_period()
            return self._period, 0
        bits.take(picture.extra_bits)
        bits.number()  # kind of slice
        bits.take(picture.states_output + 2 * sequence.has_colour_planes)
        return self._counted(bits.take(sequence.lsb_bits), sequence.lsb_bits, is_reference=is_reference)

    def _take_sequence(self, bits: _Bits) -> None:
        bits.take(4)
        layers = bits.take(3)
        bits.take(1 + _HEVC_PROFILE_BITS + _HEVC_LEVEL_BITS)
        stated = [(bits.take(1), bits.take(1)) for _ in range(layers)]
        bits.take(2 * (8 - layers) * bool(layers))
        for has_profile, has_level in stated:
            bits.take(_HEVC_PROFILE_BITS * has_profile + _HEVC_LEVEL_BITS * has_level)
        name = bits.number()
        has_colour_planes = bits.number() == 3 and bool(bits.take(1))
        bits.number()  # width
        bits.number()  # height
        if bits.take(1):
            for _ in range(4):  # edges that are cut off
                bits.number()
        bits.number()  # bits of luma
        bits.number()  # bits of chroma
        self._sequences[name] = _Parameters(0, bits.number() + 4, has_colour_planes, may_be_fields=False)

    def _units_of_header(self, header: bytes) -> Iterator[bytes]:
        at = self._count_at + 1
        for _ in range(header[self._count_at]):
            count, at = int.from_bytes(header[at + 1 : at + 3], "big"), at + 3
            for _ in range(count):
                end = at + 2 + int.from_bytes(header[at : at + 2], "big")
                yield header[at:end]
                at = end


class _Bits:
    """Reads the bits of a unit from its start on."""

    def __init__(self, content: Content) -> None:
        content = bytes(content).replace(b"\0\0\3", b"\0\0")
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
