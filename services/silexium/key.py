"""``key``: make and look at the Ed25519 keys of authors, tests, servers, logs and witnesses; say which are trusted."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from libreseed.adapters.command.console import Report
from libreseed.errors import NotFound, UsageFault

from .commands import Commands, add_subcommands
from .trusted_keys import add_trust

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed-silexium key new --out server.key --no-passphrase
  libreseed-silexium key show server.key"""


def add_parser(commands: Commands) -> None:
    """Register ``key new``, ``show``, ``trust``, ``revoke`` and ``list``."""
    inner = add_subcommands(commands, "key", summary="make and look at keys", examples=_EXAMPLES)
    new = inner.add_parser(
        "new",
        help="make a new key",
        description="Make a new Ed25519 key for one role. The file gets mode 0600 and never replaces another. Author, "
        "tests, server and log each need a key of their own.",
        examples="  libreseed-silexium key new --out author.key\n"
        "  libreseed-silexium key new --out ci.key --no-passphrase",
    )
    new.add_argument("--out", required=True, metavar="KEY", help="the file to create")
    passphrase = new.add_mutually_exclusive_group()
    passphrase.add_argument("--passphrase-file", metavar="F", help="file (or pipe) that holds the passphrase")
    passphrase.add_argument("--no-passphrase", action="store_true", help="store the key unencrypted (for services)")
    new.set_defaults(handler=_new)
    show = inner.add_parser(
        "show",
        help="print a key's public half and its id",
        description="Print the public half of a key file, and the key_id by which attestations name it.",
        examples="  libreseed-silexium key show author.key --json",
    )
    show.add_argument("file", metavar="KEY", help="the key file")
    show.set_defaults(handler=_show)
    add_trust(inner)


def _new(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.command.keys import create_key, new_passphrase

    path = Path(arguments.out)
    if os.path.lexists(path):  # before a passphrase is asked for; create_key is what guarantees it
        raise UsageFault("key.exists", f"{path} exists already")
    if not path.parent.is_dir():
        raise NotFound("notfound.file", f"there is no directory {path.parent} to put the key in")
    passphrase = None if arguments.no_passphrase else new_passphrase(arguments.passphrase_file, os.environ)
    return _report(str(create_key(path, passphrase).public), path, encrypted=passphrase is not None)


def _show(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.command.keys import read_key_file

    path = Path(arguments.file)
    file = read_key_file(path)
    return _report(str(file.public), path, encrypted=file.sealed is not None)


def _report(public: str, path: Path, *, encrypted: bool) -> Report:
    from libreseed.ids import PublicKey
    from libreseed.silexium.keyring import KeyId

    key_id = str(KeyId.of(PublicKey.parse(public)))
    data = {"pubkey": public, "key_id": key_id, "path": str(path), "encrypted": encrypted}
    return Report(f"{public}\nkey_id {key_id}", data)
