"""The pins of this user: which publisher keys are believed for which name, in ``trust.json`` below the store.

Canonical JSON, written durably and only on the user's explicit word (``libreseed trust add``). A damaged file is an
error and never an empty trust store. It decides nothing; :mod:`libreseed.resolve.trust` does. All of it blocks.
"""

from __future__ import annotations

from pathlib import Path

from libreseed import limits, wire
from libreseed.adapters.files.durable import durable_write
from libreseed.errors import LocalFault, Malformed, UsageFault
from libreseed.ids import PackageName, PublicKey
from libreseed.resolve.policy import parse_pins
from libreseed.resolve.trust import Pins

__all__ = ["TrustStore"]

_PROTOCOL = "libreseed-trust-v1"


class TrustStore:
    """``TrustStore(store_root)``: reads and changes the pins."""

    def __init__(self, root: Path) -> None:
        self._path = root / "trust.json"

    def pins(self) -> Pins:
        """All pins; none when the file does not exist. Raises :class:`LocalFault` (``storage.state``) if damaged."""
        try:
            with self._path.open("rb") as file:
                data = file.read(limits.POLICY_BYTES + 1)
        except FileNotFoundError:
            return {}
        try:
            fields = wire.require_members(wire.parse(data, max_bytes=limits.POLICY_BYTES), ("protocol", "publishers"))
            if fields["protocol"] != _PROTOCOL:
                raise Malformed("encoding.range", "not a trust store of this version")
            return parse_pins(fields["publishers"])
        except (Malformed, UsageFault) as error:
            raise LocalFault("storage.state", f"the trust store {self._path} is damaged: {error}") from error

    def add(self, name: PackageName, key: PublicKey) -> None:
        """Pin ``key`` for ``name``, beside the keys that are pinned already."""
        pins = dict(self.pins())
        if key not in pins.get(name, ()):
            self._write(pins | {name: (*pins.get(name, ()), key)})

    def remove(self, name: PackageName, key: PublicKey) -> None:
        """Unpin ``key`` for ``name``."""
        pins = dict(self.pins())
        rest = tuple(pinned for pinned in pins.pop(name, ()) if pinned != key)
        self._write(pins | ({name: rest} if rest else {}))

    def _write(self, pins: Pins) -> None:
        publishers = {str(name): [str(key) for key in keys] for name, keys in pins.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        durable_write(self._path, wire.canonical({"protocol": _PROTOCOL, "publishers": publishers}))
