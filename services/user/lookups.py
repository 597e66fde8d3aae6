"""What ``search``, ``update`` and ``doctor`` share: the resolver's settings, a DHT client, what is said of a name."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libreseed.adapters.command.console import CommandParser, add_json_flag
from libreseed.errors import TransportFault

if TYPE_CHECKING:
    from libreseed.adapters.dht.udp import DhtNode
    from libreseed.ids import PackageName, PublicKey
    from libreseed.resolve.offers import Offer
    from libreseed.resolve.policy import Policy
    from libreseed.resolve.trust import Pins

__all__ = ["Place", "add_flags", "dht_client", "offers_about", "read_place"]

_TIMEOUT_S = 60.0


def add_flags(verb: CommandParser) -> None:
    """The flags of :func:`read_place`, and ``--json``."""
    verb.add_argument("--store", metavar="D", help="the resolver's store (default: LIBRESEED_STORE or yours)")
    verb.add_argument("--bootstrap", action="append", metavar="H:P", help="a DHT node to start from; may be repeated")
    verb.add_argument("--policy", metavar="F", help="policy file, TOML or JSON (default: policy.toml)")
    verb.add_argument("--config", type=Path, metavar="F", help="configuration file (default: resolver.toml)")
    verb.add_argument("--timeout", metavar="S", help=f"seconds for the whole look-up (default: {_TIMEOUT_S:g})")
    add_json_flag(verb)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this user's resolver works, and whom it believes. ``settings`` are the resolver's, by key."""

    store: Path
    settings: Mapping[str, Any]
    policy: Policy
    pins: Pins

    @property
    def timeout(self) -> float:
        """Seconds for a look-up."""
        return min(float(self.settings["timeout"]), _TIMEOUT_S)

    def believed(self, name: PackageName) -> tuple[PublicKey, ...]:
        """The keys that the policy or a pin names for ``name``."""
        return tuple(dict.fromkeys([*self.policy.publishers.get(name, ()), *self.pins.get(name, ())]))


def read_place(args: argparse.Namespace) -> Place:
    """Settings, policy and pins, as ``libreseed-resolve`` reads them; raises what is wrong with them."""
    from libreseed.adapters.resolving.policy_file import read_policy
    from libreseed.adapters.resolving.resolver_settings import load_resolver_settings
    from libreseed.adapters.resolving.store import store_root
    from libreseed.adapters.resolving.trust_store import TrustStore
    from libreseed.resolve.policy import DEFAULT_POLICY

    flags = {name: getattr(args, name) for name in ("store", "bootstrap", "policy", "timeout")}
    settings = load_resolver_settings(args.config, flags)
    store = store_root(settings["store"])
    policy = DEFAULT_POLICY if settings["policy"] is None else read_policy(settings["policy"])
    return Place(store, settings, policy, TrustStore(store).pins())


@asynccontextmanager
async def dht_client(place: Place) -> AsyncIterator[DhtNode]:
    """A DHT node that looks up and leaves no trace in others' tables; ``deadline.total`` (12) if it takes too long."""
    import trio

    from libreseed.adapters.dht.udp import DhtNode, DhtOptions

    bootstrap = tuple((at.host, at.port) for at in place.settings["bootstrap"])
    listen = tuple((at.host, 0) for at in place.settings["listen"])
    state = place.store / "dht-nodes.json" if place.store.is_dir() else None
    node = DhtNode(DhtOptions(listen=listen, bootstrap=bootstrap, state_file=state, client=True))
    with trio.move_on_after(place.timeout) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            yield node
            nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise TransportFault("deadline.total", f"the DHT did not answer within {place.timeout:g} s")


async def offers_about(node: DhtNode, name: PackageName, keys: Iterable[PublicKey]) -> list[Offer]:
    """Everything that is said of ``name``, by publisher; nothing of it is believed."""
    from libreseed.adapters.dht.name_search import items_about
    from libreseed.resolve.offers import offers_of

    return offers_of(name, await items_about(node, name, keys))
