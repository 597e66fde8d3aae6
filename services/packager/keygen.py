"""``keygen``: a new key file, and its public key on stdout."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from libreseed.adapters.command.console import Report
from libreseed.adapters.command.keys import create_key, new_passphrase
from libreseed.errors import NotFound, UsageFault

__all__ = ["keygen"]


def keygen(arguments: argparse.Namespace) -> Report:
    """Make a key at ``--out``; raises :class:`UsageFault` ``key.*``, NotFound, and ``OSError`` from writing."""
    path = Path(arguments.out)
    if os.path.lexists(path):  # before a passphrase is asked for; create_key is what guarantees it
        raise UsageFault("key.exists", f"{path} exists already")
    if not path.parent.is_dir():
        raise NotFound("notfound.file", f"there is no directory {path.parent} to put the key in")
    passphrase = None if arguments.no_passphrase else new_passphrase(arguments.passphrase_file, os.environ)
    public = str(create_key(path, passphrase).public)
    return Report(public, {"pubkey": public, "path": str(path), "encrypted": passphrase is not None})
