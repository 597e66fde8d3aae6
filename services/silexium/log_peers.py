"""``log cosign`` and ``log recover``: what a log needs others for. silexium-log.md, 3 and 8."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report
from libreseed.adapters.command.terminal import counted
from libreseed.errors import Malformed, ProofRejected, UsageFault

from .commands import Commands
from .open_log import newest, reading_log
from .site import Site, add_site_flags, load_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libreseed.adapters.silexium.log.log_store import LogStore
    from libreseed.adapters.silexium.watching.cosigning import CosignOutcome, Witness

__all__ = ["add_parsers", "site_witnesses"]


def add_parsers(commands: Commands) -> None:
    """Register both."""
    cosign = commands.add_parser(
        "cosign",
        help="collect cosignatures of the newest head",
        description="Ask the witnesses of the settings for their cosignatures of the newest head (the server does so "
        "by itself), or add the lines that 'witness cosign' has printed.",
        examples="  libreseed-silexium log cosign --config ./log\n  libreseed-silexium log cosign line.txt",
    )
    cosign.add_argument("lines", metavar="LINE", nargs="*", help="a file with a cosignature's line")
    add_site_flags(cosign)
    cosign.set_defaults(handler=_cosign)
    recover = commands.add_parser(
        "recover",
        help="bring an old database up to what its log has shown",
        description="Append the entries that a folder (an export, or what 'mirror' has made of a mirror) has and the "
        "database lacks, so that both have one history. For a database that was put back from a backup. Nothing is "
        "believed but this log's own signature; nothing is signed.",
        examples="  libreseed-silexium log recover /srv/mirror",
    )
    recover.add_argument("folder", metavar="DIR", help="the log's folder: an export or a mirror")
    add_site_flags(recover)
    recover.set_defaults(handler=_recover)


def site_witnesses(site: Site) -> tuple[Witness, ...]:
    """The witnesses of the settings; raises :class:`UsageFault`."""
    from libreseed.adapters.silexium.watching.cosigning import Witness
    from libreseed.ids import PublicKey
    from libreseed.silexium.tree_head import NamedKey

    try:
        return tuple(Witness(NamedKey(place.name, PublicKey.parse(place.key)), place.url) for place in site.witnesses)
    except Malformed as error:
        raise UsageFault("config.value", f"witnesses: {error.message}") from error


def _cosign(arguments: argparse.Namespace) -> Report:
    site = load_site(arguments)
    with reading_log(site) as store:
        if arguments.lines:
            return _add_lines(site, store, arguments.lines)
        outcomes = _ask(site, store)
        cosignatures = newest(store).cosignatures
    failed = [(outcome.witness.identity.name, outcome.error) for outcome in outcomes if outcome.error is not None]
    lines = [f"{len(cosignatures)} witnesses have cosigned the newest head"]
    lines += [f"{name}: {error.message} [{error.reason}]" for name, error in failed]
    data = {
        "cosigned": [cosignature.signer.name for cosignature in cosignatures],
        "failed": {name: error.reason for name, error in failed},
    }
    return Report("\n".join(lines), data, failed[0][1] if failed else None)


def _ask(site: Site, store: LogStore) -> tuple[CosignOutcome, ...]:
    import trio

    from libreseed.adapters.http.client import HttpClient
    from libreseed.adapters.silexium.watching.cosigning import collect_cosignatures

    witnesses = site_witnesses(site)
    if not witnesses:
        raise UsageFault("config.value", "witnesses is not set: there is nobody to ask")

    async def ask() -> tuple[CosignOutcome, ...]:
        async with HttpClient() as client:
            return await collect_cosignatures(store, witnesses, client)

    return trio.run(ask)


def _add_lines(site: Site, store: LogStore, names: Sequence[str]) -> Report:
    from libreseed import limits
    from libreseed.adapters.files.bounded_file import read_bounded
    from libreseed.silexium.tree_head import parse_cosignatures

    head = newest(store).sth.head
    lines = [read_bounded(Path(name), limits.NOTE_BYTES).decode("utf-8", "replace").strip() for name in names]
    found = parse_cosignatures(lines, head, [witness.identity for witness in site_witnesses(site)])
    if len(found) != len(lines):
        message = f"{len(lines) - len(found)} of the lines are by no witness of the settings, or by one twice"
        raise ProofRejected("silexium.witness", message)
    for cosignature in found:
        store.add_cosignature(cosignature)
    signers = [cosignature.signer.name for cosignature in found]
    return Report("\n".join(signers), {"added": signers})


def _recover(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_folder import LogFolder
    from libreseed.adapters.silexium.log.log_recovery import recover_log

    with reading_log(load_site(arguments)) as store:
        old = store.size
        size = recover_log(store, LogFolder(Path(arguments.folder)))
    return Report(
        f"{counted(size, 'entry', 'entries')}, {size - old} of them recovered",
        {"size": size, "new_entries": size - old},
    )
