"""``log``: append to the log, sign and show its head, prove, check, back up and export it. silexium-log.md, 5.

What reads needs no key: the database knows which log it holds. What signs needs ``origin`` and ``log-key``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser, Report
from libreseed.adapters.command.terminal import counted
from libreseed.errors import Malformed, NotFound, UsageFault

from . import log_peers
from .commands import Commands, add_subcommands
from .open_log import newest, reading_log, signing_log
from .site import Site, add_site_flags, load_site

if TYPE_CHECKING:
    from libreseed.adapters.silexium.log.log_store import LogStore
    from libreseed.ids import Blake3Digest
    from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead

__all__ = ["add_parser"]

# A sentence, the hashes, and the members of a proof.
_Proof = tuple[str, tuple[bytes, ...], dict[str, object]]
_EXAMPLES = """\
  libreseed-silexium log append entry.json --origin log.example/b3 --log-key log.key
  libreseed-silexium log head --json
  libreseed-silexium log prove 42
  libreseed-silexium log prove --old 100
  libreseed-silexium log fsck
  libreseed-silexium log backup /var/backups/silexium.db
  libreseed-silexium log export /srv/log"""


def add_parser(commands: Commands) -> None:
    """Register ``log`` and its commands."""
    inner = add_subcommands(commands, "log", summary="work on the log in the database", examples=_EXAMPLES)
    _add_append(inner)
    _add_head(inner)
    _add_prove(inner)
    _add_audit(inner)
    _add_places(inner)
    log_peers.add_parsers(inner)


def _add_append(commands: Commands) -> None:
    parser = commands.add_parser(
        "append",
        help="append entries",
        description="Append log entries (the canonical JSON of silexium.md, section 5) and sign the new head. An entry "
        "that the log has already is left where it is. The server does this by itself for what is ingested.",
        examples="  libreseed-silexium log append entry.json --origin log.example/b3 --log-key log.key",
    )
    parser.add_argument("entries", metavar="ENTRY", nargs="+", help="a file with one entry; '-' is stdin")
    parser.add_argument("--no-sign", action="store_true", help="leave the signing of the head to the server")
    _add_signer_flags(parser)
    parser.set_defaults(handler=_append)


def _add_head(commands: Commands) -> None:
    parser = commands.add_parser(
        "head",
        help="show the head, or sign a new one",
        description="Show the newest head as a checkpoint, with the cosignatures of its witnesses.",
        examples="  libreseed-silexium log head\n  libreseed-silexium log head --sign --log-key log.key",
    )
    parser.add_argument("--sign", action="store_true", help="sign the log as it stands now")
    _add_signer_flags(parser)
    parser.set_defaults(handler=_head)


def _add_prove(commands: Commands) -> None:
    parser = commands.add_parser(
        "prove",
        help="prove that an entry is in the log, or that the log has only grown",
        description="Make an inclusion proof of an entry, named by its index, its hash or its file; or, with --old, a "
        "consistency proof. The proof is checked against the head before it is printed.",
        examples="  libreseed-silexium log prove 42 --json\n  libreseed-silexium log prove --old 100",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("entry", metavar="ENTRY", nargs="?", help="index, blake3:<hex>, or a file with the entry")
    what.add_argument("--old", metavar="N", help="prove that the head's log begins with that of N entries")
    add_site_flags(parser)
    parser.set_defaults(handler=_prove)


def _add_audit(commands: Commands) -> None:
    for name, summary, description, handler in (
        (
            "audit",
            "check what the entries say",
            "Read every entry: each must be in canonical form, and no version of a package may have two.",
            _audit,
        ),
        (
            "fsck",
            "check the database",
            "Compute every tile, root and index anew from the entries, verify every head and cosignature, and compare.",
            _fsck,
        ),
    ):
        parser = commands.add_parser(
            name, help=summary, description=description, examples=f"  libreseed-silexium log {name} --json"
        )
        add_site_flags(parser)
        parser.set_defaults(handler=handler)


def _add_places(commands: Commands) -> None:
    for name, metavar, place, example, summary, description, handler in (
        (
            "backup",
            "FILE",
            "the file to create",
            "/var/backups/silexium.db",
            "copy the database while it is in use",
            "Write a consistent copy to a new file. Leave the file <database>.head out of backups: it notices when "
            "an old copy is put back.",
            _backup,
        ),
        (
            "export",
            "DIR",
            "the folder; made if it is not there",
            "/srv/log",
            "write the log as static files",
            "Bring DIR up to the newest head: any web server can serve it, and anybody can mirror it.",
            _export,
        ),
    ):
        parser = commands.add_parser(
            name, help=summary, description=description, examples=f"  libreseed-silexium log {name} {example}"
        )
        parser.add_argument("place", metavar=metavar, help=place)
        add_site_flags(parser)
        parser.set_defaults(handler=handler)


def _add_signer_flags(parser: CommandParser) -> None:
    parser.add_argument("--origin", help="the log's name")
    parser.add_argument("--log-key", metavar="KEY", help="the log's key file")
    add_site_flags(parser)


# --- what they do -----------------------------------------------------------------------------------------------------


def _append(arguments: argparse.Namespace) -> Report:
    from blake3 import blake3

    from libreseed.ids import Blake3Digest
    from libreseed.silexium.log_entry import parse_log_entry

    entries = [parse_log_entry(_read_entry(name)).data for name in arguments.entries]
    site = load_site(arguments)
    with signing_log(site, create=True) as store:
        known = [store.find(Blake3Digest(blake3(entry).digest())) for entry in entries]
        fresh = iter(store.append([entry for entry, at in zip(entries, known, strict=True) if at is None]))
        indices = [next(fresh) if at is None else at for at in known]
        data: dict[str, object] = {"indices": indices, "size": store.size}
        text = "\n".join(f"{name}  {index}" for name, index in zip(arguments.entries, indices, strict=True))
        if not arguments.no_sign:
            sth = _sign(site, store)
            data["sth"] = sth.sth.members()
            text += f"\n\n{sth.data.decode()}"
        return Report(text, data)


def _head(arguments: argparse.Namespace) -> Report:
    site = load_site(arguments)
    with signing_log(site, create=False) if arguments.sign else reading_log(site) as store:
        checkpoint = _sign(site, store) if arguments.sign else newest(store)
    return Report(checkpoint.data.decode(), {"sth": checkpoint.sth.members(), "checkpoint": checkpoint.data.decode()})


def _prove(arguments: argparse.Namespace) -> Report:
    from libreseed.ids import Blake3Digest

    with reading_log(load_site(arguments)) as store:
        sth = newest(store).sth
        if arguments.old is not None:
            text, hashes, data = _prove_growth(store, sth, _number(arguments.old))
        else:
            text, hashes, data = _prove_entry(store, sth, arguments.entry)
    lines = [str(Blake3Digest(digest)) for digest in hashes]
    return Report("\n".join([text, *lines]), {"sth": sth.members(), **data})


def _prove_growth(store: LogStore, sth: SignedTreeHead, old: int) -> _Proof:
    from libreseed.silexium.log_proofs import verify_consistency

    proof = store.consistency(old, sth.size)
    verify_consistency(old, sth.size, store.root_at(old), sth.root.raw, proof.hashes)
    text = f"the log of {counted(sth.size, 'entry', 'entries')} begins with that of {old}"
    return text, proof.hashes, {"consistency": proof.members()}


def _prove_entry(store: LogStore, sth: SignedTreeHead, name: str) -> _Proof:
    from libreseed.silexium.bundle import InclusionProof
    from libreseed.silexium.log_proofs import verify_inclusion

    index, digest = _find(store, name)
    proof = InclusionProof(index, sth.size, tuple(store.inclusion(index, sth.size)))
    verify_inclusion(index, sth.size, digest.raw, proof.hashes, sth.root.raw)
    text = f"entry {index}, {digest}, is in the log of {counted(sth.size, 'entry', 'entries')}"
    return text, proof.hashes, {"inclusion": proof.members(), "entry_hash": str(digest)}


def _audit(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_audit import audit_entries

    with reading_log(load_site(arguments)) as store:
        packages, releases = audit_entries(store)
    data = {"entries": releases, "packages": packages}
    return Report(f"{counted(releases, 'entry', 'entries')} of {counted(packages, 'package')}, no version twice", data)


def _fsck(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_check import check_log

    with reading_log(load_site(arguments)) as store:
        facts = check_log(store)
        origin = store.identity.name
    data = {"origin": origin, "size": facts.size, "root_hash": str(facts.root)}
    data |= {"heads": facts.heads, "cosignatures": facts.cosignatures}
    text = f"{origin}: {counted(facts.size, 'entry', 'entries')}, {counted(facts.heads, 'head')}, "
    text += f"{counted(facts.cosignatures, 'cosignature')}; all is sound"
    return Report(f"{text}\nroot {facts.root}", data)


def _backup(arguments: argparse.Namespace) -> Report:
    target = Path(arguments.place)
    if not target.parent.is_dir():
        raise NotFound("notfound.file", f"there is no directory {target.parent}")
    with reading_log(load_site(arguments)) as store:
        store.database.backup(target)
    return Report(str(target), {"path": str(target), "bytes": target.stat().st_size})


def _export(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.log.log_export import export_log

    site = load_site(arguments)
    with reading_log(site) as store:
        done = export_log(store, Path(arguments.place), cosigned=site.cosigned)
    size = done.checkpoint.sth.size
    data = {"path": arguments.place, "size": size, "new_entries": size - done.old, "sth": done.checkpoint.sth.members()}
    return Report(f"{arguments.place}: {counted(size, 'entry', 'entries')}, {size - done.old} of them new", data)


# --- what they share --------------------------------------------------------------------------------------------------


def _sign(site: Site, store: LogStore) -> Checkpoint:
    from .office import wall_clock

    store.sign_head(site.unlock("log-key"), wall_clock())
    return newest(store)


def _find(store: LogStore, text: str) -> tuple[int, Blake3Digest]:
    """An entry by its index, its hash or its file."""
    from blake3 import blake3

    from libreseed.ids import Blake3Digest

    if text.startswith("blake3:"):
        try:
            digest = Blake3Digest.parse(text)
        except Malformed as error:
            raise UsageFault("usage", error.message) from error
    elif text.isascii() and text.isdigit():
        return (number := _number(text)), Blake3Digest(blake3(store.entry(number)).digest())
    else:
        digest = Blake3Digest(blake3(_read_entry(text)).digest())
    index = store.find(digest)
    if index is None:
        raise NotFound("notfound.log", f"the log has no entry {digest}")
    return index, digest


def _read_entry(name: str) -> bytes:
    import sys

    from libreseed import limits
    from libreseed.adapters.files.bounded_file import read_bounded

    if name == "-":
        return sys.stdin.buffer.read(limits.LOG_ENTRY_BYTES + 1)
    return read_bounded(Path(name), limits.LOG_ENTRY_BYTES)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16 and (text == "0" or text[0] != "0")):
        raise UsageFault("usage", f"not a number of entries: {text!r:.40}")
    return int(text)
