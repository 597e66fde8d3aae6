"""The checks of ``libreseed doctor``, each a :class:`Finding` with its remedy. They read and bind, and change nothing.

docs/specification/commands.md, "libreseed doctor".
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.terminal import counted
from libreseed.errors import LibreSeedError, LocalFault

if TYPE_CHECKING:
    from .lookups import Place

__all__ = [
    "Finding",
    "clock",
    "failed",
    "keys",
    "libraries",
    "network",
    "ports",
    "settings",
    "silexium",
    "store",
    "trust",
]

_PYTHONS = ((3, 11), (3, 13))
_OLDEST_CLOCK = 1_767_225_600  # 2026-01-01, before this program existed
_NEWEST_CLOCK = 4_102_444_800  # 2100-01-01
_LITTLE_SPACE = 2**30
_SETUP = "doctor.setup"


@dataclass(frozen=True, slots=True)
class Finding:
    """``state`` is ``ok``, ``warn`` or ``fail``; ``reason`` what the command ends with if this is the first fail."""

    check: str
    state: str
    says: str
    remedy: str = ""
    reason: str = ""


def failed(check: str, error: BaseException) -> Finding:
    """The finding for a check that raised; what is no declared fault is raised again."""
    from libreseed.adapters.files.oserrors import from_oserror

    if isinstance(error, BaseExceptionGroup):
        return failed(check, error.exceptions[0])
    if isinstance(error, NotADirectoryError):
        error = LocalFault("storage.occupied", f"{error.filename}: a part of this path is a file, no folder")
    elif isinstance(error, OSError):
        error = from_oserror(error)
    if not isinstance(error, LibreSeedError):
        raise error
    return Finding(check, "fail", f"{error.message} [{error.reason}]", error.remedy, error.reason)


# --- this machine ----------------------------------------------------------------------------------------------------


def libraries() -> list[Finding]:
    """The interpreter, and the libraries whose version or absence makes a difference."""
    found = [_python()]
    try:
        from libreseed.adapters.torrent.preload import load_libtorrent

        load_libtorrent()
        found.append(Finding("libtorrent", "ok", importlib.metadata.version("libtorrent")))
    except ImportError as error:
        found.append(_missing("libtorrent", error))
    try:
        from libreseed.adapters.packing.gzip_stream import zlib_ng_version

        found.append(Finding("zlib-ng", "ok", f"{zlib_ng_version()} (packages are byte-equal with the same version)"))
    except ImportError as error:
        found.append(_missing("zlib-ng", error))
    return [*found, _isal()]


def _python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    if _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return Finding("Python", "ok", running)
    return Finding("Python", "warn", f"{running} is not tested", "Use Python 3.11, 3.12 or 3.13.")


def _missing(name: str, error: ImportError) -> Finding:
    remedy = "Install LibreSeed's requirements anew, with a Python for which they have wheels."
    return Finding(name, "fail", f"cannot be loaded: {error}", remedy, _SETUP)


def _isal() -> Finding:
    from libreseed.repair.galois import load_isal

    if load_isal() is not None:
        return Finding("ISA-L", "ok", "codes parity, and agrees with zfec")
    return Finding("ISA-L", "warn", "not here: zfec codes parity, right and slower", "Install pyeclib (Linux only).")


def clock(now: float | None = None) -> Finding:
    """Whether the time can be true: records ahead of it are refused, certificates and time stamps depend on it."""
    now = time.time() if now is None else now
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if _OLDEST_CLOCK <= now < _NEWEST_CLOCK:
        return Finding("clock", "ok", said)
    return Finding("clock", "fail", f"{said} cannot be right", "Set the clock (NTP).", _SETUP)


# --- what the user has set -------------------------------------------------------------------------------------------


def settings(place: Place) -> Finding:
    """The configuration was readable; where look-ups begin."""
    nodes = ", ".join(map(str, place.settings["bootstrap"]))
    if nodes:
        return Finding("settings", "ok", f"look-ups begin at {nodes}")
    return Finding("settings", "warn", "no DHT node to begin with", "Name one: --bootstrap, or in resolver.toml.")


def store(place: Place) -> list[Finding]:
    """Whether the store can be written, by whom, and the space that is left."""
    there = next(path for path in (place.store, *place.store.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        says = f"{there} cannot be written by this user"
        return [Finding("store", "fail", says, "Change its mode or name another --store.", "doctor.store")]
    found = [Finding("store", "ok", f"{place.store}{'' if there == place.store else ' (is made on first use)'}")]
    if there == place.store and stat.S_IMODE(there.stat().st_mode) & 0o022:
        found.append(Finding("store", "warn", "others can write there", f"chmod go-w {there}"))
    free = shutil.disk_usage(there).free
    if free < _LITTLE_SPACE:
        found.append(Finding("space", "warn", f"{free >> 20} MiB are left", "A resolve needs twice a package's size."))
    return found


def keys(place: Place) -> list[Finding]:
    """Key files that others can read: the one that LIBRESEED_KEY names, and those in the configuration folder."""
    from libreseed.adapters.command.keys import find_private_keys
    from libreseed.adapters.command.settings import default_directory

    paths = sorted(find_private_keys(default_directory("config"), below=False))
    named = os.environ.get("LIBRESEED_KEY", "")
    if named and "\n" not in named and os.path.isfile(path := Path(named).expanduser()):  # noqa: PTH113  # never raises
        paths.append(path)
    open_ = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    says = "can be read by others"
    return [Finding("keys", "fail", f"{path} {says}", f"chmod 600 {path}", _SETUP) for path in open_] or [
        Finding("keys", "ok", f"{len(paths)} private keys found, none is readable by others")
    ]


def trust(place: Place) -> Finding:
    """The pins, and whether others can change them."""
    path = place.store / "trust.json"
    pins = sum(map(len, place.pins.values())) + sum(map(len, place.policy.publishers.values()))
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o022:
        return Finding("trust", "fail", f"others can write {path}", f"chmod go-w {path}, and look at it", _SETUP)
    authors = _proven_authors(place)
    if pins or authors:
        told = [f"{counted(pins, 'publisher key')} believed"] if pins else []
        told += (
            [f"{counted(authors, 'author key')} of the policy believed for what a log has proven"] if authors else []
        )
        return Finding("trust", "ok", ", ".join(told))
    return Finding("trust", "warn", "nobody is believed yet", "libreseed trust add NAME KEY, or --publisher")


def silexium(place: Place) -> Finding:
    """Whether step 10 can be taken."""
    from libreseed.adapters.command.settings import default_directory

    policy, named = place.policy, place.settings["policy"]
    if policy.silexium is None:
        says = "nobody is named in a policy: every resolve needs --no-silexium"
        file = named or default_directory("config") / "policy.toml"
        remedy = f"Put what the log's operator prints with 'libreseed-silexium policy --prefix silexium' into {file}."
        return Finding("Silexium", "warn" if policy.silexium_waivable else "fail", says, remedy, _demanded(place))
    demand = "demanded unless --no-silexium is given" if policy.silexium_waivable else "demanded"
    sources = len(policy.sources) + len(place.settings["silexium"]) + len(place.settings["mirrors"])
    where = counted(sources, "source") if sources else "no source of them is named: give --silexium or --bundle"
    return Finding("Silexium", "ok", f"{named}: proofs are {demand}; {where}")


def _proven_authors(place: Place) -> int:
    from libreseed.silexium.keyring import Role

    return 0 if place.policy.silexium is None else sum(Role.AUTHOR in key.roles for key in place.policy.silexium.keys)


def _demanded(place: Place) -> str:
    return "" if place.policy.silexium_waivable else _SETUP


# --- the network -----------------------------------------------------------------------------------------------------


def ports(place: Place) -> Finding:
    """Whether the swarm (TCP) and the DHT (UDP) can be bound where the settings say."""
    import trio

    from libreseed.adapters.command.listening import listen_addresses
    from libreseed.dht.addresses import family_of

    wanted = [(at.host, at.port) for at in place.settings["listen"]]
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    for host, port in trio.run(listen_addresses, wanted):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(families[family_of(host)], kind) as probe:
                if ":" in host:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((host, port))
    told = [str(at) if at.port else f"any free port of {at.host}" for at in place.settings["listen"]]
    return Finding("ports", "ok", ", ".join(told) + " can be bound")


def network(place: Place) -> Finding:
    """Whether any DHT node answers, and how soon."""
    import trio

    began = time.monotonic()
    nodes = trio.run(_answering, place)
    return Finding("DHT", "ok", f"{counted(nodes, 'node')} answered, {time.monotonic() - began:.1f} s")


async def _answering(place: Place) -> int:
    from .lookups import dht_client

    async with dht_client(place) as node:
        await node.get_peers(os.urandom(20))  # of a torrent that nobody has
        return node.node_count
    return 0
