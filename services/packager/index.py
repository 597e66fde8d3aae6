"""``index``: the signed list of a package's releases, ``NAME.index.dht.json`` (DESIGN 3.8).

The sequence number is the newest release's timestamp, and above that of the index it replaces when the list differs:
DHT nodes keep the highest.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from libreseed import limits
from libreseed.adapters.command.console import Report
from libreseed.adapters.command.keys import passphrase_source, signing_key
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.dht.records import ReleaseIndex, build_index, parse_index
from libreseed.errors import Malformed, NotFound, UsageFault
from libreseed.ids import PackageName, PublicKey
from libreseed.package.minimal import parse_minimal

from .publishing import existing, writing

__all__ = ["index"]


def index(arguments: argparse.Namespace) -> Report:
    """Write the index into ``--out``; raises RecordRejected ``minimal.*`` or ``index.*``, UsageFault ``key.*``."""
    try:
        name = PackageName(arguments.name)
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
    minimals = [parse_minimal(read_bounded(Path(path), limits.MINIMAL_BYTES)) for path in arguments.minimals]
    key = signing_key(arguments.key, passphrase_source(arguments.passphrase_file, os.environ), os.environ)
    out = Path(arguments.out)
    path = out / f"{name}.index.dht.json"
    data = build_index(name, minimals, key)
    before, after = _previous(path, key.public), parse_index(data, key.public)
    if before is not None and before.versions != after.versions and before.item.seq >= after.item.seq:
        data = build_index(name, minimals, key, seq=before.item.seq + 1)
        after = parse_index(data, key.public)
    with writing(path), existing(out, keep=True):
        durable_write(path, data)
    left_out = len({minimal.version for minimal in minimals}) - len(after.versions)
    text = f"{path}: {counted(len(after.versions), 'release')}, newest {after.newest}"
    text += f"; {left_out} older ones did not fit" if left_out else ""
    return Report(
        text,
        {
            "path": str(path),
            "name": str(name),
            "pubkey": str(key.public),
            "seq": after.item.seq,
            "newest": str(after.newest),
            "versions": [str(version) for version in after.versions],
            "leftOut": left_out,
        },
    )


def _previous(path: Path, pubkey: PublicKey) -> ReleaseIndex | None:
    """The index that is about to be replaced; raises RecordRejected if it is not this publisher's."""
    try:
        return parse_index(read_bounded(path, limits.INDEX_RECORD_BYTES), pubkey)
    except NotFound:
        return None
