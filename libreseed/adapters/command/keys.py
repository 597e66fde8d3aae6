"""Key files on disk, keys from the environment, passphrases from a file or a person.

Invariants: a key file is created with mode 0600 and never overwrites anything; it is read only when it is a regular
file of the calling user that nobody else can read, judged on the open descriptor; secrets never appear in an error.
docs/specification/keys.md.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.durable import durable_create
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import UsageFault
from libreseed.keys.ed25519 import PrivateKey
from libreseed.keys.keyfile import DEFAULT_COST, Cost, KeyFile, parse_key_file, seal_key
from libreseed.keys.lookalike import HEAD_BYTES, private_key_kind

__all__ = [
    "KEY_VARIABLE",
    "PassphraseSource",
    "create_key",
    "find_private_keys",
    "looks_like_private_key",
    "new_passphrase",
    "passphrase_source",
    "read_key_file",
    "signing_key",
]

KEY_VARIABLE = "LIBRESEED_KEY"
_PASSPHRASE_VARIABLE = "LIBRESEED_PASSPHRASE_FILE"  # noqa: S105  # the name of a variable
PassphraseSource = Callable[[], bytes]


def create_key(path: Path, passphrase: bytes | None, *, cost: Cost = DEFAULT_COST) -> PrivateKey:
    """Make a new key and write it to ``path`` (0600), sealed unless ``passphrase`` is None.

    Raises :class:`UsageFault` ``key.exists`` when ``path`` exists in any form; ``OSError`` passes.
    """
    key = PrivateKey(os.urandom(32))
    if passphrase is None:
        file = KeyFile(key.public, seed=key.seed)
    else:
        file = seal_key(key, passphrase, salt=os.urandom(16), nonce=os.urandom(24), cost=cost)
    try:
        durable_create(path, file.data, mode=0o600)
    except FileExistsError as error:
        raise UsageFault("key.exists", f"{path} exists already") from error
    return key


def read_key_file(path: Path) -> KeyFile:
    """Read a private key's file; raises :class:`UsageFault` ``key.*``, or NotFound when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise UsageFault("key.permissions", f"the key file {path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise from_oserror(error, "reading the key file") from error
    try:
        _check_private(path, os.fstat(descriptor))
        data = os.read(descriptor, limits.KEY_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    try:
        return parse_key_file(data)
    except UsageFault as error:
        raise UsageFault(error.reason, f"{path}: {error.message}") from error


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageFault("key.malformed", f"{path} is not a regular file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise UsageFault("key.permissions", f"the key file {path} (mode {mode:04o}) is open to others than its owner")
    if status.st_uid != os.geteuid():
        raise UsageFault("key.permissions", f"the key file {path} belongs to user {status.st_uid}, not to the caller")


def signing_key(path: str | None, passphrase: PassphraseSource, environ: Mapping[str, str]) -> PrivateKey:
    """The private key of ``--key``, else of ``LIBRESEED_KEY``: a key file's text, or its path.

    ``passphrase`` is asked only when the key is sealed. Raises :class:`UsageFault` ``key.*``.
    """
    value = path or environ.get(KEY_VARIABLE, "").strip()
    if not value:
        raise UsageFault("key.missing", f"no key: neither --key nor {KEY_VARIABLE} is given")
    if path is None and value.startswith("{"):
        try:
            file = parse_key_file(value.encode("utf-8", "surrogateescape") + b"\n")
        except UsageFault as error:
            raise UsageFault(error.reason, f"{KEY_VARIABLE}: {error.message}") from error
    else:
        file = read_key_file(Path(value))
    return file.unlock(passphrase() if file.sealed is not None else None)


def passphrase_source(file: str | None, environ: Mapping[str, str]) -> PassphraseSource:
    """Where an existing key's passphrase comes from: ``file``, ``LIBRESEED_PASSPHRASE_FILE``, or a prompt."""
    place = file or environ.get(_PASSPHRASE_VARIABLE)
    return (lambda: _passphrase_from(Path(place))) if place else (lambda: _ask("Passphrase: "))


def new_passphrase(file: str | None, environ: Mapping[str, str]) -> bytes:
    """The passphrase for a new key: from the same places, asked for twice when it is typed."""
    place = file or environ.get(_PASSPHRASE_VARIABLE)
    if place:
        return _passphrase_from(Path(place))
    first = _ask("New passphrase: ")
    if _ask("The same again: ") != first:
        raise UsageFault("key.passphrase", "the two passphrases differ")
    return first


def _passphrase_from(path: Path) -> bytes:
    """The file's content without one line end; it may be a pipe (``/dev/fd/3``)."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.PASSPHRASE_BYTES + 3)
    except OSError as error:
        raise from_oserror(error, "reading the passphrase") from error
    return _checked(data.removesuffix(b"\n").removesuffix(b"\r"))


def _ask(prompt: str) -> bytes:
    import getpass

    if not sys.stdin.isatty():
        raise UsageFault("key.passphrase", "a passphrase is needed and there is no terminal: give --passphrase-file")
    try:
        return _checked(getpass.getpass(prompt, sys.stderr).encode("utf-8", "surrogateescape"))
    except EOFError as error:
        raise UsageFault("key.passphrase", "no passphrase was typed") from error


def _checked(passphrase: bytes) -> bytes:
    if not 1 <= len(passphrase) <= limits.PASSPHRASE_BYTES:
        raise UsageFault("key.passphrase", f"a passphrase has 1 to {limits.PASSPHRASE_BYTES} bytes")
    return passphrase


def looks_like_private_key(path: Path) -> bool:
    """Whether ``path`` is a regular file that can be read and looks like a private key, ours or another program's.

    False for what cannot be read or reached: a process that cannot read a key does not hold it. Other ``OSError`` pass.
    """
    # Sockets and pipes hold nothing; opening a dead socket even fails (ENXIO), and opening a pipe is felt at its other
    # end. Path.is_file() would raise for a link into a closed folder.
    if not os.path.isfile(path):  # noqa: PTH113
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (PermissionError, FileNotFoundError):
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return private_key_kind(path.name, os.read(descriptor, HEAD_BYTES)) is not None
    finally:
        os.close(descriptor)


def find_private_keys(
    folder: Path, *, below: bool = True, but: Callable[[Path], bool] = lambda _: False
) -> Iterator[Path]:
    """Files in ``folder``, and ``below`` it, that look like private keys, in no fixed order; links to files are judged,
    too. What cannot be listed or looked at is passed over, and so is, unopened, what ``but`` is true of."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not but(path) and looks_like_private_key(path):
                yield path
        if not below:
            return
