"""Fakes for DHT tests: a node that answers as it is told, raw queries, and a small quiet network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from libreseed import bencode, limits
from libreseed.dht import krpc
from libreseed.dht.addresses import Endpoint, NodeInfo, pack_node
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.krpc import Query
from libreseed.dht.node import NodeConfig, NodeMachine, Outcome, Send
from libreseed.keys.ed25519 import PrivateKey
from libreseed.testing.network import DatagramNetwork, SimulatedNode

KEY = PrivateKey(b"\x61" * 32)
SALT = b"m:tool@1.0.0"
ASKER: Endpoint = ("203.0.113.5", 4000)
OWN_ID = b"\x10" * 20


def item(seq: int = 5, value: bytes = b"hello", key: PrivateKey = KEY, salt: bytes = SALT) -> SignedItem:
    return sign_item(key, salt, seq, bencode.encode(value))


class Liar:
    """Stands where a node stands and answers every query with whatever ``answer`` makes of it."""

    def __init__(self, answer: Callable[[Query, Endpoint], bytes | None]) -> None:
        self.outbox: list[Send] = []
        self.outcomes: list[Outcome] = []
        self.asked: list[Query] = []
        self._answer = answer

    def handle_datagram(self, data: bytes, source: Endpoint, now: float, via: int = 0) -> None:
        message = krpc.parse(data)
        if isinstance(message, Query):
            self.asked.append(message)
            answer = self._answer(message, source)
            if answer is not None:
                self.outbox.append(Send(answer, source, None))

    def handle_timeout(self, now: float) -> None:
        pass

    def next_timeout(self) -> None:
        return None

    def on(self, network: DatagramNetwork, endpoint: Endpoint) -> SimulatedNode:
        return network.attach(endpoint, cast("NodeMachine", self))


class Mirror(Liar):
    """Sends every datagram back to where it came from, as a UDP echo service does."""

    def __init__(self) -> None:
        super().__init__(lambda query, source: None)
        self.answers = 0

    def handle_datagram(self, data: bytes, source: Endpoint, now: float, via: int = 0) -> None:
        self.answers += isinstance(krpc.parse(data), krpc.Response)
        self.outbox.append(Send(data, source, None))


def respond(query: Query, source: Endpoint, node_id: bytes, /, **values: Any) -> bytes:
    fields: krpc.Fields = {name.encode(): value for name, value in values.items()}
    return krpc.encode_response(query.transaction, fields | {b"id": node_id}, source)


def nodes(*infos: tuple[bytes, Endpoint]) -> bytes:
    return b"".join(pack_node(NodeInfo(node_id, endpoint)) for node_id, endpoint in infos)


def machine(network: DatagramNetwork, *, client: bool = False, bootstrap: tuple[Endpoint, ...] = ()) -> NodeMachine:
    return NodeMachine(NodeConfig(OWN_ID, client=client, bootstrap=bootstrap), network.entropy, network.now)


class Asker:
    """Queries a machine directly, from one address, without ever answering its pings."""

    def __init__(self, target: NodeMachine, source: Endpoint = ASKER, node_id: bytes = b"\x77" * 20) -> None:
        self.target = target
        self.source = source
        self.node_id = node_id
        self.sent = 0
        self.received = 0

    def ask(self, method: bytes, now: float = 1.0, /, **args: Any) -> dict[bytes, Any] | None:
        """The whole message that comes back, or None; pings that we get in turn are counted and ignored."""
        fields: krpc.Fields = {name.encode(): value for name, value in args.items()}
        data = krpc.encode_query(b"tt", method, {b"id": self.node_id} | fields)
        return self.raw(data, now)

    def raw(self, data: bytes, now: float = 1.0) -> dict[bytes, Any] | None:
        self.sent += len(data)
        self.target.handle_datagram(data, self.source, now)
        answer = None
        for send in self.target.outbox:
            assert len(send.data) <= limits.KRPC_SEND_BYTES
            if send.endpoint == self.source:
                self.received += len(send.data)
                message = bencode.decode(send.data, max_bytes=limits.KRPC_BYTES)
                if message[b"y"] != b"q":
                    answer = message
        self.target.outbox.clear()
        return answer

    def error_of(self, method: bytes, /, **args: Any) -> int:
        answer = self.ask(method, **args)
        assert answer is not None
        assert answer[b"y"] == b"e"
        return int(answer[b"e"][0])

    def token(self, target: bytes) -> bytes:
        answer = self.ask(b"get", target=target)
        assert answer is not None
        return bytes(answer[b"r"][b"token"])

    def put(self, it: SignedItem, now: float = 1.0, /, **changes: Any) -> dict[bytes, Any] | None:
        args = {
            "k": it.pubkey.raw,
            "salt": it.salt,
            "seq": it.seq,
            "sig": it.signature.raw,
            "v": bencode.decode(it.value, max_bytes=1000),
            "token": self.token(it.target),
        }
        return self.ask(b"put", now, **(args | changes))
