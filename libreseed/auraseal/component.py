"""Components (section 3.9): data cut into parts with parity, and put together again from what is left of them.

Reed-Solomon as in section 3.6, over the parts' shares: any ``data_parts`` parts give all the others back, byte for
byte, with headers and all. Checksums find accidents only. Against lies there are two means: ``expected`` digests from a
signed chunk map, by which every data part is judged before it is used and after it was decoded; and, without them, the
demand that all parts at hand belong to one and the same code word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libreseed import limits
from libreseed.auraseal.part import RAW_TABLE, SHARE_BYTES, ComponentShape, Part, least_parity, parse_parts
from libreseed.errors import ContentRejected

__all__ = ["Reconstruction", "build_component", "reconstruct"]

_CHUNK = limits.CHUNK_BYTES
_HEAD = SHARE_BYTES - _CHUNK


def build_component(data: bytes, *, component: int, division: int, parity_parts: int | None = None) -> list[Part]:
    """The parts of ``data``, at most 244 * 5120 bytes: data parts, then parity parts (the least number by default).

    A block becomes a Huffman payload if that saves 128 bytes, and is stored raw otherwise.
    """
    from libreseed.auraseal.huffman_encode import encode_blocks

    blocks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)] or [b""]
    shape = ComponentShape(
        component, division, len(blocks), least_parity(len(blocks)) if parity_parts is None else parity_parts
    )
    parts = []
    for number, (block, (table, payload)) in enumerate(zip(blocks, encode_blocks(blocks), strict=True)):
        worth = len(block) - len(payload) >= limits.CODE_TABLE_BYTES
        head = len(block).to_bytes(8, "little") + (table if worth else RAW_TABLE)
        parts.append(Part(shape, number, head, payload if worth else block, block))
    return [*parts, *_parity(shape, parts)]


def _parity(shape: ComponentShape, data_parts: Sequence[Part]) -> list[Part]:
    from libreseed.repair.stripes import stripe_coder

    shares = bytearray().join(part.share for part in data_parts)
    coded = bytearray(shape.parity_parts * SHARE_BYTES)
    stripe_coder(shape.data_parts, shape.parity_parts).encode_into(shares, coded)
    return [
        Part(shape, shape.data_parts + row, bytes(share[:_HEAD]), bytes(share[_HEAD:]), b"")
        for row, share in enumerate(coded[at : at + SHARE_BYTES] for at in range(0, len(coded), SHARE_BYTES))
    ]


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A whole component: its ``data`` and all ``parts``, parity included.

    ``verified`` are the numbers of the parts that held by themselves: coherence is their share of all. ``healed`` are
    those that had to be put right or made anew; ``rejected`` says why a file was not used.
    """

    data: bytes = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)
    verified: frozenset[int]
    healed: frozenset[int]
    rejected: Mapping[int, ContentRejected]

    @property
    def coherence(self) -> tuple[int, int]:
        """Parts that held by themselves, and all parts."""
        return len(self.verified), len(self.parts)


def reconstruct(
    files: Mapping[int, bytes], *, shape: ComponentShape | None = None, expected: Sequence[bytes] | None = None
) -> Reconstruction:
    """Put a component together from the part ``files`` (by part number) that are left.

    ``shape`` is what the caller knows of the component; without it, what most of the parts say. ``expected`` are the
    BLAKE3-256 digests of the data of all data parts. Raises :class:`ContentRejected`: ``repair.beyond`` with the
    coherence reached if too few parts hold, ``auraseal.lying-part`` if parts contradict each other or ``expected``.
    """
    parts, rejected, shape = _hold(files, shape)
    if shape is None:
        raise _beyond(0, len(files), None, rejected)
    if expected is not None:
        _drop_unexpected(parts, rejected, shape, expected)
    verified = frozenset(number for number, part in parts.items() if not part.adopted)
    if len(parts) < shape.data_parts:
        raise _beyond(len(verified), shape.total_parts, shape, rejected)
    whole = _decode_missing(parts, shape)
    if expected is not None:
        _demand_expected(whole, expected)
    data_parts = [whole[number] for number in range(shape.data_parts)]
    every = (*data_parts, *_parity(shape, data_parts))
    lying = [number for number, part in parts.items() if part != every[number]]
    if lying and expected is None:
        raise _lying(lying, "the parts at hand contradict each other")
    for number in lying:
        rejected[number] = _lying([number], f"parity part {number} belongs to other data")
    intact = {number for number, part in parts.items() if not part.healed and number not in lying}
    return Reconstruction(
        b"".join(part.data for part in data_parts),
        every,
        verified - frozenset(lying),
        frozenset(range(shape.total_parts)) - intact,
        rejected,
    )


def _hold(
    files: Mapping[int, bytes], shape: ComponentShape | None
) -> tuple[dict[int, Part], dict[int, ContentRejected], ComponentShape | None]:
    """The files that are parts of one component; those that fail alone are tried once more with what is known of it."""
    first = dict(zip(files, parse_parts(list(files.values())), strict=True))
    if shape is None:
        shapes = Counter(part.shape for part in first.values() if isinstance(part, Part))
        shape = shapes.most_common(1)[0][0] if shapes else None
    again = [number for number, part in first.items() if not isinstance(part, Part) or part.shape != shape]
    if shape is not None:
        first.update(zip(again, parse_parts([files[number] for number in again], shape), strict=True))
    parts: dict[int, Part] = {}
    rejected: dict[int, ContentRejected] = {}
    for number, part in first.items():
        if isinstance(part, ContentRejected):
            rejected[number] = part
        elif part.number != number:
            rejected[number] = ContentRejected("auraseal.siblings", f"part {part.number} in the place of {number}")
        else:
            parts[number] = part
    return parts, rejected, shape


def _decode_missing(parts: Mapping[int, Part], shape: ComponentShape) -> dict[int, Part]:
    """All data parts; what decoding gives must be parts, or some part lied."""
    from libreseed.repair.stripes import decode_rows

    whole = {number: part for number, part in parts.items() if not part.is_parity}
    if len(whole) == shape.data_parts:
        return whole
    shares = {number: part.share for number, part in parts.items()}
    for number, share in decode_rows(shape.data_parts, shape.parity_parts, shares).items():
        try:
            whole[number] = _part_of(shape, number, share)
        except ContentRejected as error:
            raise _lying([number], f"what the parts say of part {number} is no part: {error.message}") from error
    return whole


def _part_of(shape: ComponentShape, number: int, share: bytes) -> Part:
    """The data part whose share this is: its payload's length follows from decoding."""
    head, padded = share[:_HEAD], share[_HEAD:]
    size = int.from_bytes(head[:8], "little")
    if head[8:] == RAW_TABLE:
        payload = data = padded[:size]
        if any(padded[size:]):
            raise ContentRejected("auraseal.part-fields", "bytes behind the payload")
    else:
        from libreseed.auraseal.huffman_decode import CodedBlock, decode_each

        result = decode_each([CodedBlock(head[8:], padded, size, padded=True)])[0]
        if isinstance(result, ContentRejected):
            raise result
        payload, data = padded[: result.payload_length], result.data
    return Part(shape, number, head, payload, data)


# --- digests from a signed chunk map ---------------------------------------------------------------------------------


def _drop_unexpected(
    parts: dict[int, Part],
    rejected: dict[int, ContentRejected],
    shape: ComponentShape,
    expected: Sequence[bytes],
) -> None:
    if len(expected) != shape.data_parts:
        raise ContentRejected(
            "auraseal.siblings", f"{shape.data_parts} data parts where {len(expected)} digests are signed"
        )
    for number in _unlike({number: part for number, part in parts.items() if not part.is_parity}, expected):
        rejected[number] = _lying([number], f"part {number} is not the one that is signed")
        del parts[number]


def _demand_expected(whole: Mapping[int, Part], expected: Sequence[bytes]) -> None:
    if wrong := _unlike(whole, expected):
        raise _lying(wrong, f"parity gives other data than what is signed, in parts {wrong}")


def _unlike(parts: Mapping[int, Part], expected: Sequence[bytes]) -> list[int]:
    from blake3 import blake3

    return [number for number, part in parts.items() if blake3(part.data).digest() != expected[number]]


# --- refusals --------------------------------------------------------------------------------------------------------


def _beyond(
    verified: int, total: int, shape: ComponentShape | None, rejected: Mapping[int, ContentRejected]
) -> ContentRejected:
    needed = "parts" if shape is None else f"{shape.data_parts} parts"
    return ContentRejected(
        "repair.beyond",
        f"{needed} are needed; coherence {verified}/{total}",
        evidence={
            "coherence": (verified, total),
            "needed": None if shape is None else shape.data_parts,
            "rejected": {number: error.reason for number, error in rejected.items()},
        },
    )


def _lying(numbers: Sequence[int], message: str) -> ContentRejected:
    return ContentRejected("auraseal.lying-part", message, evidence={"parts": list(numbers)})
