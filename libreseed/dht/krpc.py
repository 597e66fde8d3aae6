"""KRPC messages: a strict, bounded codec (BEP 5, 32, 43, 44; our own query ``ls_records``).

A datagram is one canonically bencoded dictionary of a known shape or it is nothing: reading raises :class:`Malformed`
and no other exception, whatever the bytes are. Field readers take what a message claims and demand type and length.

What a query means is decided in :mod:`libreseed.dht.responder`; nothing here keeps state.
Specification: ``docs/specification/dht.md``, "Messages".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import bencode, limits
from libreseed.dht.addresses import ID_BYTES, Endpoint, pack_endpoint, unpack_endpoint
from libreseed.errors import Malformed

__all__ = [
    "ErrorCode",
    "Failure",
    "Fields",
    "Message",
    "Query",
    "Response",
    "bytes_field",
    "encode_failure",
    "encode_query",
    "encode_response",
    "integer_field",
    "optional_bytes",
    "parse",
]

Fields = dict[bytes, bencode.BencodeValue]


class ErrorCode:
    """Error numbers of BEP 5 and BEP 44."""

    SERVER = 202
    PROTOCOL = 203  # malformed arguments, a bad token
    METHOD_UNKNOWN = 204
    VALUE_TOO_BIG = 205
    SIGNATURE = 206
    SALT_TOO_BIG = 207
    CAS_MISMATCH = 301
    SEQ_TOO_LOW = 302


@dataclass(frozen=True, slots=True)
class Query:
    """``y = q``: ``sender`` is the 20-byte id claimed; ``read_only`` nodes must not enter a table (BEP 43)."""

    transaction: bytes
    method: bytes
    sender: bytes
    args: Fields = field(repr=False)
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """``y = r``; ``observed`` is our own endpoint as the sender saw it, if it says so (BEP 42)."""

    transaction: bytes
    sender: bytes
    values: Fields = field(repr=False)
    observed: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """``y = e``: the error number and the sender's words, which are shown to nobody unquoted."""

    transaction: bytes
    code: int
    words: bytes


Message = Query | Response | Failure


def parse(data: bytes) -> Message:
    """Read one datagram; raises :class:`Malformed` unless it is a query, a response or an error of KRPC."""
    message = bencode.decode(data, max_bytes=limits.KRPC_BYTES)
    if type(message) is not dict:
        raise Malformed("encoding.type", "a KRPC message is a dictionary")
    transaction = bytes_field(message, b"t", 1, limits.KRPC_TRANSACTION_BYTES)
    kind = message.get(b"y")
    if kind == b"q":
        args = _dictionary(message, b"a")
        method = bytes_field(message, b"q", 1, limits.KRPC_METHOD_BYTES)
        return Query(transaction, method, _id(args), args, message.get(b"ro") == 1)
    if kind == b"r":
        values = _dictionary(message, b"r")
        return Response(transaction, _id(values), values, _observed(message))
    if kind == b"e":
        error = message.get(b"e")
        if type(error) is not list or len(error) < 2 or type(error[0]) is not int or type(error[1]) is not bytes:
            raise Malformed("encoding.type", "an error is a list of a number and words")
        return Failure(transaction, error[0], error[1])
    raise Malformed("encoding.type", "y is none of q, r and e")


def encode_query(transaction: bytes, method: bytes, args: Fields, *, read_only: bool = False) -> bytes:
    """A query; ``args`` include the sender's ``id``."""
    message: Fields = {b"t": transaction, b"y": b"q", b"q": method, b"a": args}
    if read_only:
        message[b"ro"] = 1
    return bencode.encode(message)


def encode_response(transaction: bytes, values: Fields, observed: Endpoint) -> bytes:
    """A response; ``observed`` tells the asker where its query came from (BEP 42)."""
    return bencode.encode({b"t": transaction, b"y": b"r", b"r": values, b"ip": pack_endpoint(observed)})


def encode_failure(transaction: bytes, code: int, words: str) -> bytes:
    """An error; ``words`` are for a person at the other end."""
    return bencode.encode({b"t": transaction, b"y": b"e", b"e": [code, words.encode()]})


def bytes_field(fields: Fields, name: bytes, least: int, most: int) -> bytes:
    """A string of ``least`` to ``most`` bytes; raises :class:`Malformed` where it is missing or something else."""
    value = fields.get(name)
    if type(value) is not bytes or not least <= len(value) <= most:
        raise Malformed("encoding.type", f"{name.decode()} is not a string of {least} to {most} bytes")
    return value


def optional_bytes(fields: Fields, name: bytes, most: int) -> bytes:
    """Like :func:`bytes_field`; a missing one is empty."""
    return bytes_field(fields, name, 0, most) if name in fields else b""


def integer_field(fields: Fields, name: bytes, most: int) -> int:
    """An integer from 0 to ``most``; raises :class:`Malformed` where it is missing or something else."""
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise Malformed("encoding.number", f"{name.decode()} is not an integer from 0 to {most}")
    return value


def _dictionary(fields: Fields, name: bytes) -> Fields:
    value = fields.get(name)
    if type(value) is not dict:
        raise Malformed("encoding.type", f"{name.decode()} is not a dictionary")
    return value


def _id(fields: Fields) -> bytes:
    return bytes_field(fields, b"id", ID_BYTES, ID_BYTES)


def _observed(message: Fields) -> Endpoint | None:
    """A hint, and not part of BEP 5: a strange one is as good as none."""
    value = message.get(b"ip")
    return unpack_endpoint(value) if type(value) is bytes and len(value) in (6, 18) else None
