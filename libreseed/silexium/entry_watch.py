"""Which entries of a log somebody watches for, what they may say, and what was read and told already.

A :class:`Watch` names packages, and what their entries must be: with known manifests every entry must name one of
them, with author keys the author's attestation must be by one of them; with both, both. A second entry for one version
is never expected, nor is one that nobody can read. An entry names attestations by hash and no key: whose it is follows
from the release's bundle, believed as far as the entry vouches for it (:func:`author_of`).

Entries come verified by the log's head; nothing here reads, writes or asks. Specification: ``silexium-log.md``, 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected
from libreseed.ids import Blake3Digest, PackageName, PublicKey, ReleaseId
from libreseed.package.document import rejecting, require_count, require_text
from libreseed.silexium.attestation import AuthorClaim, parse_attestation, unverified_key_id
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.keyring import KeyId
from libreseed.silexium.log_entry import LogEntry, parse_log_entry
from libreseed.silexium.log_memory import LogMemory, parse_memory
from libreseed.silexium.tree_head import NamedKey

__all__ = ["Finding", "Watch", "WatchMemory", "author_of", "parse_watch_memory"]

_PROTOCOL = "silexium-watch-v1"
_MEMBERS = ("author", "entry", "index", "manifest", "release", "unexpected")
_FORM, _KEYS = "?", "*"  # read for entries that nobody can read, for the keys: neither is a package's name


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry to tell about: ``unexpected`` says why it is; ``author`` is the key, where it is one of the watched."""

    index: int
    entry: Blake3Digest
    release: str | None = None
    manifest: Blake3Digest | None = None
    author: PublicKey | None = None
    unexpected: tuple[str, ...] = ()

    def members(self) -> dict[str, wire.JsonValue]:
        """The finding as a JSON object."""
        return {
            "index": self.index,
            "entry": str(self.entry),
            "release": self.release,
            "manifest": None if self.manifest is None else str(self.manifest),
            "author": None if self.author is None else str(self.author),
            "unexpected": list(self.unexpected),
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """``manifests``: the known ones, with the release that each is of if that is known. ``everywhere``: look for the
    author keys in all other packages' entries, too."""

    packages: frozenset[PackageName]
    manifests: Mapping[Blake3Digest, ReleaseId | None] = field(default_factory=dict)
    authors: tuple[PublicKey, ...] = ()
    everywhere: bool = False

    @property
    def names(self) -> list[str]:
        """What is to be read for, each with its own place in the log."""
        return [_FORM, *([_KEYS] if self.everywhere else []), *sorted(map(str, self.packages))]


class WatchMemory:
    """What was seen of the log (``log``), how far it was read for each name, which versions there are, what is to tell.

    Owned by one task, which writes :meth:`members` down before it tells ``untold``, and again after.
    """

    def __init__(self, log: LogMemory) -> None:
        self.log = log
        self.read: dict[str, int] = {}
        self.versions: dict[str, dict[str, int]] = {}
        self.untold: list[Finding] = []

    def start(self, watch: Watch) -> int:
        """The first entry that was not read yet for everything that is watched."""
        return min(self.read.get(name, 0) for name in watch.names)

    def candidate(self, watch: Watch, index: int, data: bytes) -> LogEntry | None:
        """The entry, if it must be judged; None when it is nobody's business, was read before, or is unreadable (which
        is noted)."""
        try:
            entry = parse_log_entry(data)
        except ProofRejected as error:
            if index >= self.read.get(_FORM, 0):
                why = f"not an entry: {error.message:.{limits.REPORT_CHARS}}"
                self.untold.append(Finding(index, Blake3Digest(blake3(data).digest()), unexpected=(why,)))
            return None
        if entry.release.name in watch.packages:
            return entry if index >= self.read.get(str(entry.release.name), 0) else None
        return entry if watch.everywhere and index >= self.read.get(_KEYS, 0) else None

    def judge(self, watch: Watch, index: int, entry: LogEntry, author: PublicKey | str) -> None:
        """Note a candidate; ``author`` is the watched key of its author, or why it is none of them."""
        key = author if isinstance(author, PublicKey) else None
        ours = entry.release.name in watch.packages
        if not ours and key is None:
            return
        unexpected = [*self._second(index, entry)] if ours else []
        if watch.authors and key is None:
            unexpected.append(f"by none of the author keys: {author}")
        known = watch.manifests.get(entry.manifest_hash, entry.release)
        if entry.manifest_hash not in watch.manifests and (watch.manifests or not ours):
            unexpected.append("its manifest is none of the known ones" if ours else "a watched key for another package")
        elif known not in (None, entry.release):
            unexpected.append(f"its manifest is that of {known}")
        release, manifest = str(entry.release), entry.manifest_hash
        self.untold.append(Finding(index, entry.digest, release, manifest, key, tuple(unexpected)))

    def _second(self, index: int, entry: LogEntry) -> Sequence[str]:
        versions = self.versions.setdefault(str(entry.release.name), {})
        first = versions.setdefault(str(entry.release.version), index)
        if sum(map(len, self.versions.values())) > limits.WATCHED_RELEASES:
            message = f"entry {index}: the log holds more than {limits.WATCHED_RELEASES} releases of what is watched"
            raise ProofRejected("silexium.unexpected-entry", message)
        return () if first == index else (f"a second entry for this version: the first is {first}",)

    def advance(self, watch: Watch, to: int) -> None:
        """Everything before entry ``to`` is read."""
        for name in watch.names:
            self.read[name] = max(to, self.read.get(name, 0))

    def members(self, log: NamedKey) -> dict[str, wire.JsonValue]:
        """The memory as a JSON object."""
        return {
            "protocol": _PROTOCOL,
            "log": log.name,
            "memory": self.log.members(),
            "names": {
                name: {"read": read, "versions": dict(self.versions.get(name, {}))} for name, read in self.read.items()
            },
            "untold": [finding.members() for finding in self.untold],
        }


def parse_watch_memory(data: bytes, log: NamedKey) -> WatchMemory:
    """Read what was written of ``log``; raises ``silexium.memory`` or the reasons of its heads."""
    with rejecting(ProofRejected, "silexium", "memory"):
        members = wire.require_members(
            wire.parse(data, max_bytes=limits.WATCH_BYTES), ("log", "memory", "names", "protocol", "untold")
        )
        if (members["protocol"], members["log"]) != (_PROTOCOL, log.name):
            raise Malformed("encoding.range", f"it is not a {_PROTOCOL} of {log.name}")
        state = WatchMemory(parse_memory(wire.canonical(members["memory"]), log))
        for name, value in _object(members["names"]).items():
            if name not in (_FORM, _KEYS):
                PackageName(name)
            place = wire.require_members(value, ("read", "versions"))
            state.read[name] = _index(place["read"])
            state.versions[name] = {version: _index(at) for version, at in _object(place["versions"]).items()}
        if type(members["untold"]) is not list:
            raise Malformed("encoding.type", "untold is not a list")
        state.untold = [_parse_finding(item) for item in members["untold"]]
        return state


def author_of(entry: LogEntry, data: bytes, authors: Sequence[PublicKey]) -> PublicKey:
    """The one of ``authors`` that signed the author's attestation of ``entry``, shown by its bundle ``data``.

    Raises ``silexium.bundle``, ``.entry-mismatch`` (a bundle with another attestation than the entry names),
    ``.key-unknown``, ``.signature``, ``.attestation`` and ``.claim``.
    """
    attested = parse_bundle(data).attestations[0]
    if Blake3Digest(blake3(attested).digest()) != entry.attestations[0]:
        raise ProofRejected("silexium.entry-mismatch", "the bundle holds another attestation than the entry names")
    named = unverified_key_id(attested)
    key = next((key for key in authors if KeyId.of(key) == named), None)
    if key is None:
        raise ProofRejected("silexium.key-unknown", f"it is signed by the key {named}", evidence={"key_id": str(named)})
    claim = parse_attestation(attested, key).claim
    if not isinstance(claim, AuthorClaim) or claim.manifest_hash != entry.manifest_hash:
        raise ProofRejected("silexium.claim", "the attestation is not about this release")
    return key


def _parse_finding(value: wire.JsonValue) -> Finding:
    members = wire.require_members(value, _MEMBERS)
    release, manifest, author = (members[name] for name in ("release", "manifest", "author"))
    why = members["unexpected"]
    if type(why) is not list:
        raise Malformed("encoding.type", "unexpected is not a list")
    return Finding(
        _index(members["index"]),
        Blake3Digest.parse(members["entry"]),
        None if release is None else str(ReleaseId.parse(release)),
        None if manifest is None else Blake3Digest.parse(manifest),
        None if author is None else PublicKey.parse(author),
        tuple(require_text(item, "unexpected") for item in why),
    )


def _object(value: wire.JsonValue) -> dict[str, wire.JsonValue]:
    if type(value) is not dict:
        raise Malformed("encoding.type", "not an object")
    return value


def _index(value: wire.JsonValue) -> int:
    return require_count(value, "an index", least=0, most=limits.LOG_ENTRIES)
