"""The resolver's policy: what the user or the organisation demands of every resolve, as one validated value.

A policy file is TOML or JSON with a closed set of members (``docs/specification/resolver.md``): an unknown or mistyped
one is an error, never ignored, because a policy that is silently not applied is worse than none. Members only ever
tighten the format's own rules (``libreseed.limits``). Reading the file is the adapter's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.errors import Malformed, UsageFault
from libreseed.ids import PackageName, PublicKey

if TYPE_CHECKING:
    from libreseed.silexium.trust_policy import SilexiumPolicy

__all__ = ["DEFAULT_POLICY", "Policy", "parse_pins", "parse_policy"]

_SILEXIUM = ("required", "waivable")
_OWN = (
    "demand",
    "headers",
    "min-age-seconds",
    "sources",
)  # of [silexium]: the resolver's own; all else says whom to believe


@dataclass(frozen=True, slots=True)
class Policy:
    """What is demanded. ``max_package_bytes`` bounds the .tgz, ``silexium_waivable`` says whether ``--no-silexium`` may
    leave out step 10, ``publishers`` are pins that come with the policy, ``patience_s`` is how long the resolver waits
    (seconds) when nothing that it lacks is on offer, ``peer_silence_s`` when a peer that owes data is dropped.

    ``silexium`` is whom step 10 believes (None: nobody, so it can only be waived), ``sources`` where to ask for proofs
    and ``headers`` places with block headers; a path in either is relative to the policy file. ``min_age_s`` is how
    long ago (seconds) a release must have been attested: most malicious ones are found out within a day."""

    max_package_bytes: int = limits.PACKAGE_BYTES
    silexium_waivable: bool = True
    silexium: SilexiumPolicy | None = None
    sources: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    min_age_s: int = 0
    patience_s: int = 15
    peer_silence_s: int = 10
    publishers: Mapping[PackageName, tuple[PublicKey, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not 1 <= self.max_package_bytes <= limits.PACKAGE_BYTES:
            raise _bad(f"max-package-bytes must be between 1 and {limits.PACKAGE_BYTES}")
        if not (1 <= self.patience_s <= 86_400 and 1 <= self.peer_silence_s <= 86_400):
            raise _bad("patience-seconds and peer-silence-seconds must be between 1 and 86400")
        if not 0 <= self.min_age_s <= limits.MIN_AGE_SECONDS:
            raise _bad(f"silexium.min-age-seconds must be between 0 and {limits.MIN_AGE_SECONDS}")


DEFAULT_POLICY = Policy()


def parse_policy(members: Mapping[str, object]) -> Policy:
    """The policy that a decoded file states; raises :class:`UsageFault` (``config.policy``, exit 3)."""
    known = {"max-package-bytes", "silexium", "patience-seconds", "peer-silence-seconds", "publishers"}
    if unknown := members.keys() - known:
        raise _bad(f"unknown member {min(unknown)!r:.80}; known are {', '.join(sorted(known))}")
    table = members.get("silexium", "waivable")
    if not isinstance(table, Mapping):
        table = {"demand": table}
    demand = table.get("demand", "waivable")
    if demand not in _SILEXIUM:
        raise _bad(f"silexium must be a table, or one of {', '.join(_SILEXIUM)}")
    return Policy(
        max_package_bytes=_integer(members, "max-package-bytes", DEFAULT_POLICY.max_package_bytes),
        silexium_waivable=demand == "waivable",
        silexium=_parse_silexium(table),
        sources=_texts(table, "sources"),
        headers=_texts(table, "headers"),
        min_age_s=_integer(table, "min-age-seconds", DEFAULT_POLICY.min_age_s),
        patience_s=_integer(members, "patience-seconds", DEFAULT_POLICY.patience_s),
        peer_silence_s=_integer(members, "peer-silence-seconds", DEFAULT_POLICY.peer_silence_s),
        publishers=parse_pins(members.get("publishers", {})),
    )


def parse_pins(value: object) -> Mapping[PackageName, tuple[PublicKey, ...]]:
    """Read ``{name: [key, ...]}``; raises :class:`UsageFault` (``config.policy``)."""
    if not isinstance(value, Mapping):
        raise _bad("publishers must map a package name to a list of keys")
    pins: dict[PackageName, tuple[PublicKey, ...]] = {}
    for name, keys in value.items():
        if not isinstance(keys, list) or not keys:
            raise _bad(f"publishers: {name!r:.80} needs a list of at least one key")
        try:
            pins[PackageName(name)] = tuple(PublicKey.parse(key) for key in keys)
        except Malformed as error:
            raise _bad(f"publishers: {error}") from error
    return MappingProxyType(pins)


def _parse_silexium(table: Mapping[str, object]) -> SilexiumPolicy | None:
    """Whom step 10 believes; None when the table names nobody at all."""
    rest = {name: value for name, value in table.items() if name not in _OWN}
    if not rest:
        return None
    from libreseed.silexium.trust_policy import parse_silexium_policy

    return parse_silexium_policy(rest)


def _texts(table: Mapping[str, object], name: str) -> tuple[str, ...]:
    values = table.get(name, [])
    if not isinstance(values, list) or len(values) > limits.PROOF_SOURCES:
        raise _bad(f"silexium.{name} must be a list of at most {limits.PROOF_SOURCES} texts")
    if not all(isinstance(value, str) and value for value in values):
        raise _bad(f"silexium.{name} must be a list of texts")
    return tuple(values)


def _integer(members: Mapping[str, object], name: str, default: int) -> int:
    value = members.get(name, default)
    if type(value) is not int:
        raise _bad(f"{name} must be a whole number")
    return value


def _bad(message: str) -> UsageFault:
    return UsageFault("config.policy", f"policy: {message}")
