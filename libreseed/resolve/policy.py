"""The resolver's policy: what the user or the organisation demands of every resolve, as one validated value.

A policy file is TOML or JSON with a closed set of members (``docs/specification/resolver.md``): an unknown or mistyped
one is an error, never ignored, because a policy that is silently not applied is worse than none. Members only ever
tighten the format's own rules (``libreseed.limits``). Reading the file is the adapter's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from libreseed import limits
from libreseed.errors import Malformed, UsageFault
from libreseed.ids import PackageName, PublicKey

__all__ = ["DEFAULT_POLICY", "Policy", "parse_pins", "parse_policy"]

_SILEXIUM = ("required", "waivable")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is demanded. ``max_package_bytes`` bounds the .tgz, ``silexium_waivable`` says whether ``--no-silexium`` may
    leave out step 10, ``publishers`` are pins that come with the policy, ``patience_s`` is how long the resolver waits
    (seconds) when nothing that it lacks is on offer, ``peer_silence_s`` when a peer that owes data is dropped."""

    max_package_bytes: int = limits.PACKAGE_BYTES
    silexium_waivable: bool = True
    patience_s: int = 15
    peer_silence_s: int = 10
    publishers: Mapping[PackageName, tuple[PublicKey, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not 1 <= self.max_package_bytes <= limits.PACKAGE_BYTES:
            raise _bad(f"max-package-bytes must be between 1 and {limits.PACKAGE_BYTES}")
        if not (1 <= self.patience_s <= 86_400 and 1 <= self.peer_silence_s <= 86_400):
            raise _bad("patience-seconds and peer-silence-seconds must be between 1 and 86400")


DEFAULT_POLICY = Policy()


def parse_policy(members: Mapping[str, object]) -> Policy:
    """The policy that a decoded file states; raises :class:`UsageFault` (``config.policy``, exit 3)."""
    known = {"max-package-bytes", "silexium", "patience-seconds", "peer-silence-seconds", "publishers"}
    if unknown := members.keys() - known:
        raise _bad(f"unknown member {min(unknown)!r:.80}; known are {', '.join(sorted(known))}")
    silexium = members.get("silexium", "waivable")
    if silexium not in _SILEXIUM:
        raise _bad(f"silexium must be one of {', '.join(_SILEXIUM)}")
    return Policy(
        max_package_bytes=_integer(members, "max-package-bytes", DEFAULT_POLICY.max_package_bytes),
        silexium_waivable=silexium == "waivable",
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


def _integer(members: Mapping[str, object], name: str, default: int) -> int:
    value = members.get(name, default)
    if type(value) is not int:
        raise _bad(f"{name} must be a whole number")
    return value


def _bad(message: str) -> UsageFault:
    return UsageFault("config.policy", f"policy: {message}")
