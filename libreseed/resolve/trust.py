"""Publisher trust (DESIGN 5): whose signature on a name counts, first match decides.

The order is: the key named for this run; the pins for the name (policy file, then trust store); the author whom a
Silexium log has proven and the policy trusts for the package (``Resolution.attested``); else nobody. Nothing is trusted
on first use without being told to, so "nobody" is a refusal that lists who was found, never a question that a script
could answer by accident.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libreseed.errors import UsageFault
from libreseed.ids import PackageName, PublicKey
from libreseed.resolve.request import Request

__all__ = ["Pins", "TrustBasis", "pin_command", "trusted_publishers", "untrusted"]

Pins = Mapping[PackageName, tuple[PublicKey, ...]]


@dataclass(frozen=True, slots=True)
class TrustBasis:
    """Whom to believe for one name, the preferred one first, and why: ``flag``, ``policy``, ``pin``, ``silexium``."""

    keys: tuple[PublicKey, ...]
    why: str


def trusted_publishers(request: Request, policy_pins: Pins, store_pins: Pins) -> TrustBasis | None:
    """The keys to believe for the requested name, or None when nobody is trusted for it yet."""
    if request.publisher is not None:
        return TrustBasis((request.publisher,), "flag")
    name = request.release.name
    for pins, why in ((policy_pins, "policy"), (store_pins, "pin")):
        if keys := pins.get(name):
            return TrustBasis(keys, why)
    return None


def pin_command(name: PackageName, key: PublicKey, store: str | None = None) -> str:
    """The command that makes ``key`` trusted for ``name`` from now on, in ``store`` or the usual one."""
    place = "" if store is None else f" --store {shlex.quote(store)}"
    return f"libreseed trust add {name} {key}{place}"


def untrusted(request: Request, found: Sequence[PublicKey]) -> UsageFault:
    """The refusal (exit 21) that names every publisher found for the name and how to pin each."""
    name = request.release.name
    claims = f"{len(found)} key{' claims' if len(found) == 1 else 's claim'} {request.release}"
    message = f"no publisher is trusted for {name}; {claims}: {', '.join(map(str, found))}"
    commands = [pin_command(name, key, request.named_store) for key in found]
    details = [f"to trust it from now on: {command}" for command in commands]
    details += [f"to trust it once:         --publisher {key}" for key in found]
    evidence = {"publishers": [str(key) for key in found], "commands": commands}
    return UsageFault("trust.unknown-publisher", message, evidence=evidence, details=details)
