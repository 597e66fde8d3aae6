"""The receipt of an installed release: what was installed where, on whose word, and what was not checked.

It is kept in the store when the tree is published (step 11), and carries the whole minimal manifest, so that the tree
can be verified again with no network. Nobody signs it: it is this machine's own note, and reading it verifies the
minimal manifest anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, LocalFault, Malformed
from libreseed.ids import Sha256Digest
from libreseed.package.minimal import MinimalManifest, parse_minimal

__all__ = ["Receipt", "parse_receipt"]

_PROTOCOL = "libreseed-receipt-v1"
_MEMBERS = ("protocol", "record", "path", "installed", "trust", "silexium")
_OPTIONAL = ("proofs", "tree")


@dataclass(frozen=True, slots=True)
class Receipt:
    """``path`` is where the tree was put, ``installed_ms`` when (Unix milliseconds), ``trust`` why the publisher was
    believed (``flag``, ``policy``, ``pin``, ``silexium``), ``silexium`` what step 10 said (``proven`` or
    ``not checked``), ``proofs`` what was proven (log, head, entry, keys, times), empty where nothing was. ``tree`` is
    the SHA-256 of the tree's manifest.json, for a publisher can sign two trees for one version."""

    minimal: MinimalManifest
    path: str
    installed_ms: int
    trust: str
    silexium: str
    proofs: Mapping[str, wire.JsonValue] = field(default_factory=dict)
    tree: Sha256Digest | None = None

    @property
    def data(self) -> bytes:
        """The bytes kept in the store (canonical JSON)."""
        fields = {"protocol": _PROTOCOL, "record": self.minimal.data.decode(), "path": self.path}
        more: dict[str, wire.JsonValue] = {"installed": self.installed_ms, "trust": self.trust}
        more |= {"silexium": self.silexium, **({"proofs": dict(self.proofs)} if self.proofs else {})}
        if self.tree is not None:
            more["tree"] = str(self.tree)
        return wire.canonical(fields | more)


def parse_receipt(data: bytes) -> Receipt:
    """Read a kept receipt; raises :class:`LocalFault` (``storage.state``) for a damaged one."""
    try:
        fields = wire.require_members(wire.parse(data, max_bytes=limits.STORE_RECORD_BYTES), _MEMBERS, _OPTIONAL)
        if fields["protocol"] != _PROTOCOL or type(fields["installed"]) is not int:
            raise Malformed("encoding.range", "not a receipt of this version")
        if not all(isinstance(fields[name], str) for name in ("record", "path", "trust", "silexium")):
            raise Malformed("encoding.type", "a member of the receipt is not a text")
        if not isinstance(proofs := fields.get("proofs", {}), dict):
            raise Malformed("encoding.type", "the proofs of the receipt are no object")
        minimal = parse_minimal(fields["record"].encode())
        tree = Sha256Digest.parse(fields["tree"]) if "tree" in fields else None
    except LibreSeedError as error:
        raise LocalFault("storage.state", f"a receipt in the store is damaged: {error}") from error
    return Receipt(minimal, fields["path"], fields["installed"], fields["trust"], fields["silexium"], proofs, tree)
