"""What looks like a private key: judged by the head of a file and its name, never by trust.

Used where a private key must not be: a tree that is packaged, the folders of a seeder (guarantee G2). It errs towards
alarm for what is a key in any common format, and stays silent on prose and source code that merely mention one: a
marker counts at the start of a line with key material below it. It reads no file. docs/specification/keys.md.
"""

from __future__ import annotations

import re

__all__ = ["HEAD_BYTES", "private_key_kind"]

HEAD_BYTES = 64 * 2**10  # how much of a file is judged

# PEM as OpenSSL, OpenSSH and GnuPG write it: the marker line, optional headers and blank lines, then base64.
_PEM = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----[ \t]*\r?\n"
    rb"(?:(?:[A-Za-z-]{1,40}: [^\n]{0,200})?\r?\n){0,8}[A-Za-z0-9+/=]{16}",
    re.MULTILINE,
)
_AGE = re.compile(rb"^AGE-SECRET-KEY-1[0-9A-Z]{58}", re.MULTILINE)
_MINISIGN = re.compile(rb"^untrusted comment: [^\n]{0,200}secret key[^\n]{0,200}\nRW[A-Za-z0-9+/=]{40}", re.MULTILINE)
_PUTTY = re.compile(rb"\APuTTY-User-Key-File-[0-9]: ")
_OURS = re.compile(rb'"protocol"\s*:\s*"libreseed-key-')
_JWK_TYPE = re.compile(rb'"kty"\s*:\s*"(?:OKP|EC|RSA|oct)"')
_JWK_SECRET = re.compile(rb'"[dk]"\s*:\s*"[A-Za-z0-9_-]{20}')
# DER: SEQUENCE, version 0, 1 or 3, then what PKCS #8, PKCS #1, SEC 1 and PKCS #12 have there.
_DER = re.compile(rb"\A\x30(?:[\x20-\x7f]|\x81.|\x82..|\x83...)\x02\x01[\x00\x01\x03][\x30\x02\x04]", re.DOTALL)
_DER_NAMES = (".key", ".der", ".p8", ".pk8", ".p12", ".pfx")
_JAVA_MAGIC = (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce")
_JSON_START = re.compile(rb"\A\s*[{\[]")


def private_key_kind(name: str, head: bytes) -> str | None:
    """What kind of private key a file with this base ``name`` and these first bytes looks like; None for none.

    ``head`` is the first :data:`HEAD_BYTES` bytes of the file (fewer when it is shorter).
    """
    # ``in`` is a hundred times faster than a search and spares nearly every file of a large tree all of them.
    if b"-----BEGIN " in head and (pem := _PEM.search(head)):
        return f"PEM {pem[1].decode('ascii').lower()}"
    if _JSON_START.match(head):
        if _OURS.search(head):
            return "LibreSeed key file"
        if _JWK_TYPE.search(head) and _JWK_SECRET.search(head):
            return "JSON web key with its private part"
    if b"AGE-SECRET-KEY-1" in head and _AGE.search(head):
        return "age secret key"
    if b"untrusted comment: " in head and _MINISIGN.search(head):
        return "minisign secret key"
    if _PUTTY.match(head):
        return "PuTTY key"
    if name.lower().endswith(_DER_NAMES) and _DER.match(head):
        return "DER private key"
    if head.startswith(_JAVA_MAGIC) and not name.endswith(".class"):
        return "Java key store"
    return None
