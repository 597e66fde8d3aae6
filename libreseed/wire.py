"""The strict JSON profile of section 3.1: RFC 8785 (JCS) without floats, as reader and writer.

Received bytes must *be* the canonical bytes, so :func:`parse` encodes what it read and compares. Every function raises
:class:`Malformed` and nothing else. What a document means is decided by its own module, through :class:`Members`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from libreseed import limits
from libreseed.errors import Malformed

__all__ = ["JsonValue", "canonical", "parse", "parse_unsigned", "require_members"]

_TYPE_NAMES = {dict: "object", list: "array", str: "text", int: "integer", bool: "boolean", type(None): "null"}
JsonValue = Any


def canonical(value: JsonValue) -> bytes:
    """The RFC 8785 bytes of ``value`` (dict, list, str, int, bool, None); raises :class:`Malformed` otherwise."""
    text = json.dumps(_ordered(value, 1), ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed("encoding.not-utf8", "a text holds a lone surrogate") from error


def parse(data: bytes, *, max_bytes: int) -> JsonValue:
    """Read canonical JSON of at most ``max_bytes`` bytes; raises :class:`Malformed` unless it is exactly that."""
    value, encoded = _read(data, max_bytes)
    if encoded != data:
        raise Malformed("encoding.not-canonical", "not in canonical form (RFC 8785)")
    return value


def parse_unsigned(data: bytes, *, max_bytes: int) -> JsonValue:
    """As :func:`parse`, in any spelling: for API bodies, which are never signed or hashed. Depth, numbers, texts and
    duplicate members are held to the same profile."""
    return _read(data, max_bytes)[0]


def _read(data: bytes, max_bytes: int) -> tuple[JsonValue, bytes]:
    """The value, and its canonical bytes."""
    if len(data) > max_bytes:
        raise Malformed("encoding.too-large", f"{len(data)} bytes where at most {max_bytes} are allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("encoding.not-utf8", "not UTF-8") from error
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_integer,
        )
    except RecursionError as error:
        raise Malformed("encoding.depth", "nested too deeply") from error
    except ValueError as error:
        raise Malformed("encoding.not-json", f"not JSON: {error}") from error
    return value, canonical(value)


def require_members(value: JsonValue, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, JsonValue]:
    """Demand an object whose members are exactly ``required`` plus some of ``optional``; returns it.

    Signed documents are closed sets: a new member needs a new ``protocol`` text (section 3.1).
    """
    if type(value) is not dict:
        raise Malformed("encoding.type", f"expected an object, got {_TYPE_NAMES.get(type(value), 'something else')}")
    required = frozenset(required)
    if missing := required - value.keys():
        raise Malformed("encoding.missing-member", f"missing member {min(missing)!r}")
    if unknown := value.keys() - required - frozenset(optional):
        raise Malformed("encoding.unknown-member", f"unknown member {min(unknown)!r:.100}")
    return value


def _ordered(value: JsonValue, depth: int) -> JsonValue:
    """``value`` with members in UTF-16 order (RFC 8785, 3.2.3), checked for the profile's types and bounds."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if abs(value) > limits.JSON_INTEGER:
            raise Malformed("encoding.number", "integer outside ±(2^53-1)")
        return value
    if kind is not dict and kind is not list:
        raise Malformed("encoding.type", f"{kind.__name__} has no place in a signed document")
    if depth > limits.JSON_DEPTH:
        raise Malformed("encoding.depth", f"nested more than {limits.JSON_DEPTH} deep")
    if kind is list:
        return [_ordered(item, depth + 1) for item in value]
    if not all(type(key) is str for key in value):
        raise Malformed("encoding.type", "a member name that is not a text")
    try:
        names = sorted(value, key=lambda key: key.encode("utf-16-be"))
    except UnicodeEncodeError as error:
        raise Malformed("encoding.not-utf8", "a member name holds a lone surrogate") from error
    return {name: _ordered(value[name], depth + 1) for name in names}


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("encoding.duplicate-member", "a member occurs twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 17:  # int() of thousands of digits is quadratic; 2^53-1 has 16 and a sign
        raise Malformed("encoding.number", "integer outside ±(2^53-1)")
    return int(digits)


def _refuse_number(text: str) -> NoReturn:
    raise Malformed("encoding.number", f"not an integer: {text:.40}")
