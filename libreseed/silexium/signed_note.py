"""Signed notes (C2SP signed-note): a text, a blank line, and lines ``— <name> <base64 of key hash and signature>``.

Read strictly: UTF-8, LF only, no control characters, canonical base64, a bounded number of lines, nothing behind them.
Which signatures are known and hold is decided by who knows the keys. Specification: ``silexium.md``, 6.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata
from dataclasses import dataclass

from libreseed import limits
from libreseed.errors import Malformed
from libreseed.ids import PublicKey

__all__ = ["COSIGNATURE_TYPE", "NoteSignature", "SignedNote", "check_key_name", "note_key_hash"]

COSIGNATURE_TYPE = 0x04  # Ed25519 cosignature/v1

_LINE = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})", re.ASCII)


def check_key_name(name: object) -> str:
    """Demand the name of a key or log: not empty, bounded, without spaces, plus signs or control characters."""
    if type(name) is not str or not 1 <= len(name) <= limits.KEY_NAME_CHARS:
        raise Malformed("encoding.name", f"a key name has 1 to {limits.KEY_NAME_CHARS} characters")
    if any(char == "+" or char.isspace() or unicodedata.category(char)[0] in "CZ" for char in name):
        raise Malformed("encoding.name", f"a log or key has a name without spaces and plus signs, got {name!r:.100}")
    return name


def note_key_hash(name: str, key: PublicKey, kind: int = COSIGNATURE_TYPE) -> bytes:
    """The 4 bytes by which a signature line names its key: SHA-256 of name, LF, type and key, cut short."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key.raw).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the key's ``name``, its 4-byte ``key_hash`` and the signature's bytes, of any type."""

    name: str
    key_hash: bytes
    body: bytes

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.key_hash) != 4 or not 1 <= len(self.body) <= limits.NOTE_SIGNATURE_BYTES:
            raise Malformed("encoding.signature-text", f"the signature line of {self.name} has an odd length")

    @classmethod
    def parse(cls, line: object) -> NoteSignature:
        """Read one line, without its LF; raises :class:`Malformed`."""
        match = _LINE.fullmatch(line) if type(line) is str and len(line) <= limits.NOTE_BYTES else None
        if match is None:
            raise Malformed("encoding.signature-text", f"not a signature line: {line!r:.100}")
        try:
            raw = base64.b64decode(match[2], validate=True)
        except binascii.Error as error:
            raise Malformed("encoding.signature-text", "a signature line is not base64") from error
        signature = cls(match[1], raw[:4], raw[4:])
        if str(signature) != line:
            raise Malformed("encoding.signature-text", "a signature line is not canonical base64")
        return signature

    def __str__(self) -> str:
        return f"\u2014 {self.name} {base64.b64encode(self.key_hash + self.body).decode()}"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note: ``text`` ends in LF, ``signatures`` are its lines in order, known or not."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n") or any(unicodedata.category(c) == "Cc" and c != "\n" for c in self.text):
            raise Malformed("encoding.not-canonical", "not the text of a note")
        if not 1 <= len(self.signatures) <= limits.NOTE_SIGNATURES:
            raise Malformed("encoding.range", f"a note has 1 to {limits.NOTE_SIGNATURES} signatures")

    @classmethod
    def parse(cls, data: bytes) -> SignedNote:
        """Read a note; raises :class:`Malformed` unless it is exactly in form."""
        if len(data) > limits.NOTE_BYTES:
            raise Malformed("encoding.too-large", f"a note has at most {limits.NOTE_BYTES} bytes")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("encoding.not-utf8", "a note is not UTF-8") from error
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise Malformed("encoding.not-canonical", "not a signed note")
        return cls(text + "\n", tuple(NoteSignature.parse(line) for line in lines[:-1].split("\n")))

    @property
    def data(self) -> bytes:
        """The note as it is served."""
        return (self.text + "\n" + "".join(f"{signature}\n" for signature in self.signatures)).encode()
