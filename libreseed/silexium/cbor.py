"""CBOR as another spelling of API bodies (RFC 8949): transport only, never signed, hashed or stored.

The values are those of the JSON profile (section 3.1): maps with text keys, arrays, texts, integers within ±(2^53-1),
booleans, null. Written in the deterministic form (RFC 8949, 4.2.1), and read in no other: shortest lengths, sorted
keys, no duplicates, no tags, floats, byte strings or indefinite lengths, nothing behind the value. General CBOR readers
take all of these, which is why this is our own. Both functions raise :class:`Malformed` and nothing else.
Specification: ``silexium-api.md``, 4.
"""

from __future__ import annotations

from libreseed import limits
from libreseed.errors import Malformed
from libreseed.wire import JsonValue

__all__ = ["CBOR_TYPE", "parse_cbor", "write_cbor"]

CBOR_TYPE = "application/cbor"

_UNSIGNED, _NEGATIVE, _TEXT, _ARRAY, _MAP = 0x00, 0x20, 0x60, 0x80, 0xA0
_SIMPLE: dict[int, JsonValue] = {0xF4: False, 0xF5: True, 0xF6: None}
_LENGTHS = {24: 1, 25: 2, 26: 4, 27: 8}  # additional information -> bytes of the argument that follow


def write_cbor(value: JsonValue) -> bytes:
    """The deterministic bytes of ``value``; raises :class:`Malformed` for what has no place in the profile."""
    return b"".join(_write(value, 1))


def parse_cbor(data: bytes, *, max_bytes: int) -> JsonValue:
    """Read exactly one value in deterministic form, of at most ``max_bytes`` bytes."""
    if len(data) > max_bytes:
        raise Malformed("encoding.too-large", f"{len(data)} bytes where at most {max_bytes} are allowed")
    value, end = _read(data, 0, 1)
    if end != len(data):
        raise Malformed("encoding.not-canonical", "bytes behind the CBOR value")
    return value


def _write(value: JsonValue, depth: int) -> list[bytes]:
    kind = type(value)
    if value is None or kind is bool:
        return [bytes([0xF6 if value is None else 0xF4 + value])]
    if kind is int:
        if abs(value) > limits.JSON_INTEGER:
            raise Malformed("encoding.number", "integer outside ±(2^53-1)")
        return [_head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)]
    if kind is str:
        return [_text(value)]
    if kind not in (list, dict):
        raise Malformed("encoding.type", f"{kind.__name__} has no place in a document")
    if depth > limits.JSON_DEPTH:
        raise Malformed("encoding.depth", f"nested more than {limits.JSON_DEPTH} deep")
    if kind is list:
        return [_head(_ARRAY, len(value)), *(part for item in value for part in _write(item, depth + 1))]
    if not all(type(key) is str for key in value):
        raise Malformed("encoding.type", "a member name that is not a text")
    members = sorted((_text(key), item) for key, item in value.items())  # keys differ, so items are never compared
    parts = [_head(_MAP, len(members))]
    for key, item in members:
        parts += [key, *_write(item, depth + 1)]
    return parts


def _text(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("encoding.not-utf8", "a text holds a lone surrogate") from error
    return _head(_TEXT, len(data)) + data


def _head(major: int, argument: int) -> bytes:
    """Major type and argument, in the fewest bytes."""
    if argument < 24:
        return bytes([major | argument])
    code, length = next((code, length) for code, length in _LENGTHS.items() if argument < 256**length)
    return bytes([major | code]) + argument.to_bytes(length, "big")


def _read(data: bytes, at: int, depth: int) -> tuple[JsonValue, int]:
    """The value at ``at``, and where it ends."""
    first = data[at] if at < len(data) else 0xFF
    if first in _SIMPLE:
        return _SIMPLE[first], at + 1
    major, (argument, at) = first & 0xE0, _read_head(data, at)
    if major in (_UNSIGNED, _NEGATIVE):
        if argument > limits.JSON_INTEGER - (major == _NEGATIVE):
            raise Malformed("encoding.number", "integer outside ±(2^53-1)")
        return (argument if major == _UNSIGNED else -1 - argument), at
    if major == _TEXT:
        return _read_text(data, at, argument)
    if major not in (_ARRAY, _MAP):
        raise Malformed("encoding.type", "byte strings, tags and floats have no place here")
    if depth > limits.JSON_DEPTH:
        raise Malformed("encoding.depth", f"nested more than {limits.JSON_DEPTH} deep")
    if argument > len(data) - at:  # each item has at least one byte
        raise Malformed("encoding.not-json", "CBOR ends within a value")
    return (_read_array if major == _ARRAY else _read_map)(data, at, argument, depth)


def _read_array(data: bytes, at: int, count: int, depth: int) -> tuple[JsonValue, int]:
    items = []
    for _ in range(count):
        item, at = _read(data, at, depth + 1)
        items.append(item)
    return items, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[JsonValue, int]:
    members: dict[str, JsonValue] = {}
    before = b""
    for _ in range(count):
        start = at
        key, at = _read(data, at, depth + 1)
        if type(key) is not str:
            raise Malformed("encoding.type", "a member name that is not a text")
        if data[start:at] <= before:
            raise Malformed("encoding.duplicate-member", "members twice, or not in order")
        before = data[start:at]
        members[key], at = _read(data, at, depth + 1)
    return members, at


def _read_text(data: bytes, at: int, length: int) -> tuple[str, int]:
    if length > len(data) - at:
        raise Malformed("encoding.not-json", "CBOR ends within a text")
    try:
        return data[at : at + length].decode("utf-8"), at + length
    except UnicodeDecodeError as error:
        raise Malformed("encoding.not-utf8", "not UTF-8") from error


def _read_head(data: bytes, at: int) -> tuple[int, int]:
    """The argument at ``at`` in its shortest form, and where it ends."""
    if at >= len(data):
        raise Malformed("encoding.not-json", "CBOR ends within a value")
    code = data[at] & 0x1F
    if code < 24:
        return code, at + 1
    length = _LENGTHS.get(code, 0)
    argument = int.from_bytes(data[at + 1 : at + 1 + length], "big")
    if not length or at + 1 + length > len(data) or _head(0, argument)[0] != code:
        raise Malformed("encoding.not-canonical", "a length that is indefinite, cut short, or not the shortest")
    return argument, at + 1 + length
