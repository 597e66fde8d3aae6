"""Part files (section 3.9): at most 5120 bytes of a component, or parity, behind a header that heals itself.

A :class:`Part` is one that holds: its fields agree with each other and its payload decodes to ``data``. A file becomes
a part in numbered steps, each with its own reason; what is wrong in reach of the recovery bits is put right on the way.
Checksums of a part (64 bits of SHA-256, CRC-32) find accidents, never forgers: the signed chunk map decides
(:mod:`libreseed.auraseal.component`). What lies behind the recovery bits is the same in all parts of a component but
for the payload's length, so a part whose checksums fail is tried once more with what its siblings say.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["RAW_TABLE", "SHARE_BYTES", "ComponentShape", "Part", "parse_part", "parse_parts", "part_files"]

_CHUNK = limits.CHUNK_BYTES
_HEADER = limits.PART_HEADER_BYTES
_FOOTER = limits.PART_FOOTER_BYTES
_FRAME = _HEADER + _FOOTER
_COVERED, _CORRECTED = 144, 208  # the recovery bits cover the former and end at the latter
_HEAD = 8  # from here to _COVERED the erasure code sees a header
SHARE_BYTES = _COVERED - _HEAD + _CHUNK
RAW_TABLE = bytes(limits.CODE_TABLE_BYTES)

_START = struct.Struct("<IBBBB")
_OUTSIDE = struct.Struct("<BBHH42s")
_SUMS = struct.Struct("<8sI")
_MAGIC = 0xD12A4C00
_VERSION = 1
_PARITY = 1
_COHERENT = struct.pack("<f", 1.0) + bytes(_FOOTER - _SUMS.size - 4)
_DIVISIONS = 5


@dataclass(frozen=True, slots=True)
class ComponentShape:
    """What all parts of a component share; raises :class:`ContentRejected` (``auraseal.part-fields``) if impossible."""

    component: int
    division: int
    data_parts: int
    parity_parts: int

    def __post_init__(self) -> None:
        if not (0 <= self.component < limits.COMPONENTS and 0 <= self.division < _DIVISIONS):
            raise ContentRejected("auraseal.part-fields", f"no component {self.component} of division {self.division}")
        if not (
            self.data_parts >= 1
            and least_parity(self.data_parts) <= self.parity_parts <= limits.COMPONENT_PARITY_PARTS
            and self.total_parts <= limits.COMPONENT_PARTS
        ):
            raise ContentRejected(
                "auraseal.part-fields",
                f"no component has {self.data_parts} data parts and {self.parity_parts} parity parts",
            )

    @property
    def total_parts(self) -> int:
        """Data and parity parts, 2 to 256."""
        return self.data_parts + self.parity_parts


def least_parity(data_parts: int) -> int:
    """The parity parts that make coherence 0.954 sufficient, as in section 3.6."""
    num, den = limits.COHERENCE_NUM, limits.COHERENCE_DEN
    return max(1, -(-data_parts * (den - num) // num))


@dataclass(frozen=True, slots=True)
class Part:
    """One part: ``number`` within its component, header bytes 8..143 (``head``), ``payload`` and decoded ``data``.

    Parity parts have numbers from ``shape.data_parts`` on, a payload of 5120 bytes, and no data. ``healed`` says that
    the file had wrong bytes which were put right, ``adopted`` that its siblings' word was needed for this.
    """

    shape: ComponentShape
    number: int
    head: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    data: bytes = field(repr=False)
    healed: bool = field(default=False, compare=False)
    adopted: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.shape.total_parts:
            raise ContentRejected("auraseal.part-fields", f"part {self.number} of {self.shape.total_parts}")
        if self.is_parity:
            good = len(self.payload) == _CHUNK and not self.data
        else:
            raw = self.head[8:] == RAW_TABLE
            good = self.full_size == len(self.data) and (not raw or self.data == self.payload)
            check_full_size(self.shape, self.number, self.full_size)
        if not good or len(self.head) != _COVERED - _HEAD:
            raise ContentRejected("auraseal.part-fields", f"the payload of part {self.number} has another length")

    @property
    def is_parity(self) -> bool:
        """Whether this is a parity part."""
        return self.number >= self.shape.data_parts

    @property
    def full_size(self) -> int:
        """The header's u64 at 8: bytes of ``data``; without meaning in a parity part."""
        return int.from_bytes(self.head[:8], "little")

    @property
    def share(self) -> bytes:
        """What the erasure code sees: 5256 bytes."""
        return self.head + self.payload.ljust(_CHUNK, b"\0")


def check_full_size(shape: ComponentShape, number: int, full_size: int) -> None:
    """All data parts but the last are full; an empty component has one empty part."""
    last = number == shape.data_parts - 1
    least = (0 if shape.data_parts == 1 else 1) if last else _CHUNK
    if not least <= full_size <= _CHUNK:
        raise ContentRejected("auraseal.part-fields", f"{full_size} bytes in part {number} of {shape.data_parts}")


# --- writing -----------------------------------------------------------------------------------------------------


def part_files(parts: Sequence[Part]) -> list[bytes]:
    """The exact file of each part."""
    from libreseed.auraseal.header_code import recovery_bits

    covered = [
        _START.pack(_MAGIC, part.number, part.shape.total_parts & 255, _VERSION, _PARITY * part.is_parity) + part.head
        for part in parts
    ]
    bodies = [
        start + bits + _outside(part.shape, len(part.payload)) + part.payload
        for part, start, bits in zip(parts, covered, recovery_bits(covered), strict=True)
    ]
    return [body + _sums(body) + _COHERENT for body in bodies]


def _outside(shape: ComponentShape, payload_length: int) -> bytes:
    return _OUTSIDE.pack(shape.component, shape.division, payload_length, shape.data_parts, bytes(42))


def _sums(body: bytes) -> bytes:
    return _SUMS.pack(hashlib.sha256(body).digest()[:8], zlib.crc32(body))


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """A file whose checksums hold: its fields are what was written, which may still be nonsense."""

    header: bytes
    payload: bytes
    healed: bool
    adopted: bool


def parse_part(file: bytes, shape: ComponentShape | None = None) -> Part:
    """Read one part file; raises :class:`ContentRejected`. See :func:`parse_parts`."""
    part = parse_parts([file], shape)[0]
    if isinstance(part, ContentRejected):
        raise part
    return part


def parse_parts(files: Sequence[bytes], shape: ComponentShape | None = None) -> list[Part | ContentRejected]:
    """For every file the part that it is, or the reason why it is none; many at once are faster.

    ``shape`` is what is known of the component: parts of another one are refused (``auraseal.siblings``), and a part
    that is damaged behind its recovery bits is tried once more with it.
    """
    results: list[Part | ContentRejected] = []
    waiting: list[tuple[int, _Frame, ComponentShape]] = []
    for at, frame in enumerate(_frames(files, shape)):
        try:
            if isinstance(frame, ContentRejected):
                raise frame
            stated = _read_fields(frame)
            if shape is not None and stated != shape:
                raise ContentRejected("auraseal.siblings", f"the part belongs to another component: {stated}")
        except ContentRejected as error:
            results.append(error)
        else:
            waiting.append((at, frame, stated))
            results.append(ContentRejected("auraseal.part-fields", "not decoded yet"))
    for (at, frame, stated), data in zip(waiting, _decode([frame for _, frame, _ in waiting]), strict=True):
        results[at] = data if isinstance(data, ContentRejected) else _assemble(frame, stated, data)
    return results


def _frames(files: Sequence[bytes], shape: ComponentShape | None) -> list[_Frame | ContentRejected]:
    """Steps 1 to 4: length, header, footer, checksums."""
    from libreseed.auraseal.header_code import recovery_bits

    lengthy = [file for file in files if _FRAME <= len(file) <= _FRAME + _CHUNK]  # 1. length
    bits = iter(recovery_bits(lengthy))
    frames: list[_Frame | ContentRejected] = []
    for file in files:
        try:
            if not _FRAME <= len(file) <= _FRAME + _CHUNK:
                raise ContentRejected("auraseal.part-length", f"no part file has {len(file)} bytes")
            frames.append(_frame(bytes(file), next(bits), shape))
        except ContentRejected as error:
            frames.append(error)
    return frames


def _frame(file: bytes, expected_bits: bytes, shape: ComponentShape | None) -> _Frame:
    from libreseed.auraseal.header_code import correct

    covered = file[:_CORRECTED]
    if covered[_COVERED:] != expected_bits:  # 2. header: put right what the recovery bits can
        covered = correct(covered)
    payload, footer = file[_HEADER:-_FOOTER], file[-_FOOTER:]
    if footer[_SUMS.size :] != _COHERENT:  # 3. footer: coherence 1.0, zeros
        raise ContentRejected("auraseal.part-footer", "coherence is not 1.0, or what follows is not zero")
    header = covered + file[_CORRECTED:_HEADER]
    healed = covered != file[:_CORRECTED]
    if _sums(header + payload) == footer[: _SUMS.size]:  # 4. checksums, both
        return _Frame(header, payload, healed, adopted=False)
    if shape is not None:
        header = covered + _outside(shape, len(payload))
        if _sums(header + payload) == footer[: _SUMS.size]:
            return _Frame(header, payload, healed=True, adopted=True)
    raise ContentRejected("auraseal.part-checksum", "SHA-256 or CRC-32 of the part is not what its footer says")


def _read_fields(frame: _Frame) -> ComponentShape:
    """Step 5: every field of the header has a meaning, and they agree."""
    magic, number, total, version, flags = _START.unpack_from(frame.header)
    component, division, length, data_parts, zeros = _OUTSIDE.unpack_from(frame.header, _CORRECTED)
    if magic != _MAGIC or version != _VERSION or zeros != bytes(42):
        raise ContentRejected("auraseal.part-fields", "not a part file of this version")
    total = total or limits.COMPONENT_PARTS
    shape = ComponentShape(component, division, data_parts, total - data_parts)
    if flags != (_PARITY if number >= data_parts else 0):
        raise ContentRejected("auraseal.part-fields", f"flags {flags} in part {number} of {data_parts} data parts")
    if length != len(frame.payload):
        raise ContentRejected("auraseal.part-fields", f"{length} bytes of payload where {len(frame.payload)} are")
    if number < data_parts:  # before anything is decoded by it
        check_full_size(shape, number, int.from_bytes(frame.header[_HEAD : _HEAD + 8], "little"))
    return shape


def _decode(frames: Sequence[_Frame]) -> list[bytes | ContentRejected]:
    """Step 6: the data; a parity part has none."""
    results: list[bytes | ContentRejected] = []
    coded: list[int] = []
    for at, frame in enumerate(frames):
        parity = frame.header[7] & _PARITY
        raw = frame.header[_HEAD + 8 : _COVERED] == RAW_TABLE
        results.append(b"" if parity else frame.payload)
        if not parity and not raw:
            coded.append(at)
    if coded:
        from libreseed.auraseal.huffman_decode import CodedBlock, decode_each

        blocks = []
        for at in coded:
            head = frames[at].header[_HEAD:_COVERED]
            size = int.from_bytes(head[:8], "little")
            # An empty block has no code: the reader of one symbol finds fault with it.
            blocks.append(CodedBlock(head[8:], frames[at].payload, max(1, size)))
        for at, result in zip(coded, decode_each(blocks), strict=True):
            results[at] = result if isinstance(result, ContentRejected) else result.data
    return results


def _assemble(frame: _Frame, shape: ComponentShape, data: bytes) -> Part | ContentRejected:
    try:
        part = Part(shape, frame.header[4], frame.header[_HEAD:_COVERED], frame.payload, data)
    except ContentRejected as error:
        return error
    return replace(part, healed=frame.healed, adopted=frame.adopted)
