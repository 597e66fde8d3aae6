"""What looks like a private key is found in every common format; what only talks about keys is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from libreseed.adapters.command.keys import create_key, find_private_keys, looks_like_private_key
from libreseed.keys.keyfile import Cost
from libreseed.keys.lookalike import private_key_kind
from tests.tools import as_an_owner, require_program

BASE64_LINE = b"MC4CAQAwBQYDK2VwBCIEIKjGdJfYp4rQ2b1v9m8ZyX0uC3o7sVq1w5kA4tN6hLxE"
DASHES = b"-----"


def _pem(label: bytes, *, newline: bytes = b"\n", headers: bytes = b"") -> bytes:
    begin, end = DASHES + b"BEGIN " + label + DASHES, DASHES + b"END " + label + DASHES
    return newline.join([begin, *headers.splitlines(), BASE64_LINE, end, b""])


FOUND = {
    "pkcs8": ("a.txt", _pem(b"PRIVATE KEY")),
    "encrypted pkcs8": ("a.pem", _pem(b"ENCRYPTED PRIVATE KEY")),
    "rsa with headers": (
        "id_rsa",
        _pem(b"RSA PRIVATE KEY", headers=b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n"),
    ),
    "windows line ends": ("a.pem", _pem(b"EC PRIVATE KEY", newline=b"\r\n")),
    "openssh": ("deploy", _pem(b"OPENSSH PRIVATE KEY")),
    "pgp": ("k.asc", _pem(b"PGP PRIVATE KEY BLOCK", headers=b"Version: 1\n\n")),
    "behind a certificate": ("both.pem", _pem(b"CERTIFICATE") * 20 + _pem(b"PRIVATE KEY")),
    "age": ("key.txt", b"# created: now\nAGE-SECRET-KEY-1" + b"Q" * 58 + b"\n"),
    "minisign": ("m.key", b"untrusted comment: minisign encrypted secret key\nRW" + b"Q" * 60 + b"\n"),
    "putty": ("x.ppk", b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"),
    "jwk": ("k.json", b'{"crv":"Ed25519","d":"' + b"x" * 43 + b'","kty":"OKP","x":"y"}'),
    "jwk set": ("k.json", b' [{"kty": "EC", "d": "' + b"x" * 43 + b'"}]'),
    "der": ("server.key", b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03+ep\x04\x22"),
    "pkcs12": ("store.P12", b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82"),
    "java": ("store.jks", b"\xfe\xed\xfe\xed\x00\x00\x00\x02"),
}
SILENT = {
    "public key": ("a.pem", _pem(b"PUBLIC KEY")),
    "certificate": ("a.pem", _pem(b"CERTIFICATE")),
    "prose": ("README.md", b"put the " + DASHES + b"BEGIN PRIVATE KEY" + DASHES + b" line first\n" + BASE64_LINE),
    "marker without a key": ("x.py", DASHES + b"BEGIN PRIVATE KEY" + DASHES + b"\n...\n"),
    "public jwk": ("k.json", b'{"crv":"Ed25519","kty":"OKP","x":"' + b"x" * 43 + b'"}'),
    "code that names the format": ("keyfile.py", b'KEY_PROTOCOL = "libreseed-key-v1"\n'),
    "certificate in der": ("a.der", b"\x30\x82\x0a\x00\x30\x82\x09\x00"),
    "java class": ("A.class", b"\xca\xfe\xba\xbe"),
    "empty": ("id_rsa", b""),
    "noise": ("x.key", bytes(range(256)) * 16),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str) -> None:
    assert private_key_kind(*FOUND[case]) is not None


@pytest.mark.parametrize("case", SILENT)
def test_silent(case: str) -> None:
    assert private_key_kind(*SILENT[case]) is None


def test_hostile_content_is_judged_in_linear_time() -> None:
    for filler in (
        b"-----BEGIN PRIVATE KEY-----\n",
        b"A: b\n",
        b"untrusted comment: secret key",
        b"\n",
        b'{"kty":"EC"',
    ):
        hostile = (filler * 70000)[: 64 * 2**10]
        assert private_key_kind("x.key", hostile) == private_key_kind("x.key", hostile[: 4 * 2**10])


def test_our_own_key_files_are_found_sealed_or_plain(tmp_path: Path) -> None:
    create_key(tmp_path / "sealed", b"x", cost=Cost(1, 8 * 2**10))
    (tmp_path / "deep").mkdir()
    create_key(tmp_path / "deep" / "plain", None)
    (tmp_path / "README").write_text("nothing secret")
    assert sorted(find_private_keys(tmp_path)) == [tmp_path / "deep" / "plain", tmp_path / "sealed"]


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert not looks_like_private_key(tmp_path / "pipe")
    assert not looks_like_private_key(tmp_path / "dangling")
    assert not looks_like_private_key(tmp_path)


def test_what_openssl_and_ssh_keygen_write_is_found(tmp_path: Path) -> None:
    require_program("openssl")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "a"], check=True, timeout=60)
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", tmp_path / "b.der"],
        check=True,
        timeout=60,
    )
    require_program("ssh-keygen")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "c"],
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert {path.name for path in find_private_keys(tmp_path)} == {"a", "b.der", "c"}  # and not c.pub


_LOOK = """
import sys
from pathlib import Path
from libreseed.adapters.command.keys import find_private_keys
for path in find_private_keys(Path(sys.argv[1]), below=sys.argv[2] == "below"):
    print(path.name)
"""


@pytest.mark.parametrize("below", ["below", "here"])
def test_what_a_service_may_not_look_into_does_not_keep_it_from_starting(tmp_path: Path, below: str) -> None:
    """A folder of settings that can be entered and not listed; a link to a key in a folder that is somebody else's."""
    under = as_an_owner()
    listed, entered, closed = (tmp_path / name for name in ("listed", "entered", "closed"))
    for folder in (listed, entered, closed):
        folder.mkdir()
        create_key(folder / "some.key", None)
    (listed / "link").symlink_to(closed / "some.key")
    entered.chmod(0o311)
    closed.chmod(0)
    try:
        for folder, found in ((listed, "some.key\n"), (entered, "")):
            line = [*under, sys.executable, "-c", _LOOK, str(folder), below]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (0, found), done.stderr
    finally:
        entered.chmod(0o755)
        closed.chmod(0o755)
