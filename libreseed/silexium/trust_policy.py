"""Whom a verifier believes: keys with roles, logs with their witnesses, time stamp authorities, the Bitcoin network.

A closed set of members, read from a decoded TOML or JSON table; an unknown or mistyped one is an error (exit 3),
because a demand that is silently dropped is worse than none. Nothing is trusted by default. Specification:
``silexium.md``, 8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from libreseed import limits
from libreseed.errors import LibreSeedError, Malformed, ProofRejected, UsageFault
from libreseed.ids import PackageName, PublicKey
from libreseed.silexium.bitcoin_headers import NETWORKS
from libreseed.silexium.instants import LAST_INSTANT, parse_instant
from libreseed.silexium.keyring import Keyring, Role, TrustedKey
from libreseed.silexium.quorum import NO_QUORUM, Quorum
from libreseed.silexium.rfc3161 import TrustedTsa
from libreseed.silexium.stamps import TimePolicy
from libreseed.silexium.tree_head import NamedKey

__all__ = ["SilexiumPolicy", "TrustedLog", "parse_silexium_policy", "parse_time_policy"]

_HEX64 = re.compile("[0-9a-f]{64}", re.ASCII)
T = TypeVar("T")
Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log, the witnesses that must have cosigned its heads, and how old (seconds) a head may be; None: any age."""

    identity: NamedKey
    witnesses: Quorum = NO_QUORUM
    max_head_age: int | None = None

    def __post_init__(self) -> None:
        if self.identity.key in {witness.key for witness in self.witnesses.witnesses()}:
            raise UsageFault("config.policy", f"policy: {self.identity.name} cannot be its own witness")


@dataclass(frozen=True, slots=True)
class SilexiumPolicy:
    """What step 10 demands. ``channels`` None takes releases of every channel."""

    keys: Keyring
    logs: tuple[TrustedLog, ...]
    time: TimePolicy
    channels: frozenset[str] | None = None

    def __post_init__(self) -> None:
        origins = [log.identity.name for log in self.logs]
        if not origins or len(set(origins)) != len(origins):
            raise UsageFault("config.policy", "policy: no log is trusted, or one is listed twice")

    def find_log(self, origin: object) -> TrustedLog:
        """The log with this origin; raises ``silexium.head-log``."""
        for log in self.logs:
            if log.identity.name == origin:
                return log
        message = f"no trusted log is called {origin!r:.100}"
        raise ProofRejected("silexium.head-log", message, evidence={"origin": str(origin)[:200]})


def parse_silexium_policy(table: Table) -> SilexiumPolicy:
    """The policy that a decoded table states; raises :class:`UsageFault` (``config.policy``)."""
    try:
        _closed(table, "silexium", ("keys", "logs", "time"), ("channels",))
        channels = table.get("channels")
        return SilexiumPolicy(
            keys=Keyring(_each(table["keys"], "keys", _parse_key)),
            logs=_each(table["logs"], "logs", _parse_log),
            time=parse_time_policy(_table(table["time"], "time")),
            channels=None if channels is None else frozenset(_each(channels, "channels", _text)),
        )
    except Malformed as error:
        raise UsageFault("config.policy", f"policy: {error.message}") from error


def _parse_key(value: object) -> TrustedKey:
    table = _table(value, "keys")
    _closed(table, "keys", ("key", "roles"), ("not-after", "not-before", "packages", "revoked-at"))
    packages = table.get("packages")
    roles = _each(table["roles"], "roles", _parse_role)
    return TrustedKey(
        PublicKey.parse(table["key"]),
        frozenset(roles),
        None if packages is None else frozenset(PackageName(item) for item in _each(packages, "packages", _text)),
        not_before=_instant(table, "not-before", 0),
        not_after=_instant(table, "not-after", LAST_INSTANT),
        revoked_at=_instant(table, "revoked-at", 0) if "revoked-at" in table else None,
    )


def _parse_role(value: object) -> Role:
    if value not in tuple(map(str, Role)):
        raise _bad(f"no such role: {value!r:.60}")
    return Role(str(value))


def _parse_log(value: object) -> TrustedLog:
    table = _table(value, "logs")
    _closed(table, "logs", ("key", "origin"), ("max-head-age-seconds", "witnesses"))
    age = _integer(table, "max-head-age-seconds", 0, most=LAST_INSTANT) if "max-head-age-seconds" in table else None
    identity = NamedKey(_text(table["origin"]), PublicKey.parse(table["key"]))
    quorum = _parse_quorum(table["witnesses"], 1) if "witnesses" in table else NO_QUORUM
    return TrustedLog(identity, quorum, age)


def _parse_quorum(value: object, depth: int) -> Quorum:
    """{threshold, members}: each member is {name, key} or again a quorum, two levels deep."""
    table = _table(value, "witnesses")
    _closed(table, "witnesses", ("members", "threshold"))
    if depth > limits.QUORUM_DEPTH:
        raise _bad("witnesses are nested too deeply")

    def member(item: object) -> NamedKey | Quorum:
        inner = _table(item, "witnesses.members")
        if "threshold" in inner:
            return _parse_quorum(inner, depth + 1)
        _closed(inner, "witnesses.members", ("key", "name"))
        return NamedKey(_text(inner["name"]), PublicKey.parse(inner["key"]))

    threshold = _integer(table, "threshold", 1, most=limits.WITNESSES)
    return Quorum(threshold, _each(table["members"], "witnesses.members", member))


def parse_time_policy(table: Table) -> TimePolicy:
    """What the table ``time`` of a policy states; raises :class:`UsageFault` or :class:`Malformed`."""
    _closed(table, "time", ("tsas",), ("checkpoints", "max-lag-seconds", "network", "tsa-threshold"))
    network = _text(table.get("network", "mainnet"))
    if network not in NETWORKS:
        raise _bad(f"no such Bitcoin network: {network!r:.60}; known are {', '.join(sorted(NETWORKS))}")
    return TimePolicy(
        tsas=_each(table["tsas"], "tsas", _parse_tsa),
        tsa_threshold=_integer(table, "tsa-threshold", 1, most=limits.TRUSTED_TSAS),
        network=NETWORKS[network],
        pins=_each(table.get("checkpoints", []), "checkpoints", _parse_pin),
        max_lag=_integer(table, "max-lag-seconds", limits.OTS_LAG_SECONDS, most=LAST_INSTANT),
    )


def _parse_tsa(value: object) -> TrustedTsa:
    table = _table(value, "tsas")
    _closed(table, "tsas", ("name", "root"), ("distrust-after", "leaf", "not-before", "policy"))
    return TrustedTsa(
        _text(table["name"]),
        _certificate(table["root"]),
        leaf=_certificate(table["leaf"]) if "leaf" in table else None,
        policy=_text(table["policy"]) if "policy" in table else None,
        not_before=_instant(table, "not-before", 0),
        distrust_after=_instant(table, "distrust-after", LAST_INSTANT),
    )


def _certificate(value: object) -> bytes:
    """The DER of one PEM certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return x509.load_pem_x509_certificate(_text(value).encode()).public_bytes(Encoding.DER)
    except (ValueError, x509.InvalidVersion) as error:
        reason = str(error).partition(" See https://")[0]  # the library's message ends with an address of its own
        raise _bad(f"not a PEM certificate: {reason}") from error


def _parse_pin(value: object) -> tuple[int, bytes]:
    table = _table(value, "checkpoints")
    _closed(table, "checkpoints", ("hash", "height"))
    text = _text(table["hash"])
    if not _HEX64.fullmatch(text):
        raise _bad("a checkpoint's hash is 64 lower-case hex digits, as explorers write it")
    return _integer(table, "height", -1, most=limits.BITCOIN_HEIGHT), bytes.fromhex(text)[::-1]


def _closed(table: Table, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if missing := set(required) - table.keys():
        raise _bad(f"{where} lacks {min(missing)!r}")
    if unknown := table.keys() - set(required) - set(optional):
        raise _bad(f"{where} has an unknown member {min(unknown)!r:.80}")


def _table(value: object, where: str) -> Table:
    if not isinstance(value, Mapping):
        raise _bad(f"{where} must be a table")
    return value


def _each(value: object, where: str, parse: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > limits.POLICY_ITEMS:
        raise _bad(f"{where} must be a list of at most {limits.POLICY_ITEMS}")
    return tuple(parse(item) for item in value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _bad(f"{value!r:.60} must be a text")
    return value


def _integer(table: Table, name: str, default: int, *, most: int) -> int:
    value = table.get(name, default)
    if type(value) is not int or not 0 <= value <= most:
        raise _bad(f"{name} must be a whole number from 0 to {most}")
    return value


def _instant(table: Table, name: str, default: int) -> int:
    return parse_instant(table[name]) if name in table else default


def _bad(message: str) -> LibreSeedError:
    return UsageFault("config.policy", f"policy: {message}")
