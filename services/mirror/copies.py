"""A mirror's copy of a release, and the note by which a restart knows it again without reading it.

:class:`Copy` is what was found when the copy was last judged (:mod:`.judging`). All that is not signed by the publisher
is in its :class:`CopyNote`, which is kept in the mirror's state folder. What a note says about a file holds only while
the file's stamp is the same; a missing or damaged note costs one judgement. docs/specification/mirror.md, 2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import limits, wire
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.adapters.release.seed_store import Stamp
from libreseed.errors import LibreSeedError, Malformed
from libreseed.package.minimal import MinimalManifest
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.plan import Coherence

__all__ = ["Component", "Copy", "CopyNote", "read_note", "stamps_of", "write_note"]

STAMPED = (".tgz", ".parity", ".chunks", ".torrent", ".minimal.json", ".dht.json", ".silexium.json")
_FORMAT = "libreseed-mirror-note-v1"
_RUNS = 20_000  # of bad chunks; a note with more is not kept


@dataclass(frozen=True, slots=True)
class Component:
    """What a package zip says of one component: CRC-32 and SHA-512."""

    crc32: int
    sha512: bytes


@dataclass(frozen=True, slots=True)
class CopyNote:
    """What was found. ``minimal`` is the manifest's bytes, ``m`` the parity rows.

    ``sha512`` of the .tgz and ``components`` are empty for a copy that is not whole (a package of more than 256
    components has none either). ``withheld`` are files that do not hold and are not shown.
    Times are Unix milliseconds; ``healed`` counts chunks over the copy's life.
    """

    minimal: bytes
    m: int
    stamps: Mapping[str, str] = field(default_factory=dict)
    bad_data: tuple[range, ...] = ()
    bad_parity: tuple[range, ...] = ()
    verified: int = 0  # of the parts of the worst stripe
    sha512: bytes = b""
    components: tuple[Component, ...] = ()
    withheld: tuple[str, ...] = ()
    judged_ms: int = 0
    healed: int = 0

    def encode(self) -> bytes:
        """The note as a file."""
        return wire.canonical(
            {
                "bad_data": [[run.start, run.stop] for run in self.bad_data],
                "bad_parity": [[run.start, run.stop] for run in self.bad_parity],
                "components": [[one.crc32, _text(one.sha512)] for one in self.components],
                "format": _FORMAT,
                "healed": self.healed,
                "judged_ms": self.judged_ms,
                "m": self.m,
                "minimal": self.minimal.decode(),
                "sha512": _text(self.sha512),
                "stamps": dict(self.stamps),
                "verified": self.verified,
                "withheld": list(self.withheld),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> CopyNote:
        """Read a note of our own; raises :class:`Malformed`."""
        note = wire.parse(data, max_bytes=limits.MIRROR_NOTE_BYTES)
        if not isinstance(note, dict) or note.get("format") != _FORMAT:
            raise Malformed("encoding.type", f"not a {_FORMAT} document")
        try:
            return cls(
                minimal=note["minimal"].encode(),
                m=int(note["m"]),
                stamps={str(suffix): str(stamp) for suffix, stamp in note["stamps"].items()},
                bad_data=tuple(range(start, stop) for start, stop in note["bad_data"]),
                bad_parity=tuple(range(start, stop) for start, stop in note["bad_parity"]),
                verified=int(note["verified"]),
                sha512=_raw(note["sha512"]),
                components=tuple(Component(int(crc32), _raw(sha512)) for crc32, sha512 in note["components"]),
                withheld=tuple(map(str, note["withheld"])),
                judged_ms=int(note["judged_ms"]),
                healed=int(note["healed"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Malformed("encoding.type", f"not a {_FORMAT} document: {error}") from error


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy as it was judged last."""

    files: ReleaseFiles
    minimal: MinimalManifest
    note: CopyNote

    @property
    def whole(self) -> bool:
        """Whether every byte of the .tgz is there and right."""
        return not self.note.bad_data

    @property
    def coherence(self) -> Coherence:
        """That of the worst stripe, when the copy was judged."""
        return Coherence(self.note.verified, ChunkGrid(self.minimal.size).k + self.note.m)

    def has(self, suffix: str) -> bool:
        """Whether the file with ``suffix`` was there, and held."""
        return suffix in self.note.stamps and suffix not in self.note.withheld

    def fresh(self, suffix: str, stamp: Stamp | None) -> bool:
        """Whether the file with ``suffix`` is the one that was judged."""
        return stamp is not None and self.note.stamps.get(suffix) == str(stamp)


def stamps_of(files: ReleaseFiles) -> dict[str, str]:
    """The present stamps of the files that exist."""
    found = {suffix: Stamp.of(files.path(suffix)) for suffix in STAMPED}
    return {suffix: str(stamp) for suffix, stamp in found.items() if stamp is not None}


def read_note(path: Path) -> CopyNote | None:
    """The note in ``path``; None without a readable one."""
    try:
        return CopyNote.decode(read_bounded(path, limits.MIRROR_NOTE_BYTES))
    except LibreSeedError:
        return None


def write_note(path: Path, note: CopyNote) -> None:
    """Replace the note, durably; one with too many runs is removed instead."""
    if len(note.bad_data) + len(note.bad_parity) > _RUNS:
        path.unlink(missing_ok=True)
        return
    durable_write(path, note.encode(), mode=0o600)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
