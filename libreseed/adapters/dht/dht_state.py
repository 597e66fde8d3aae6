"""The file in which a DHT node keeps its id and the nodes that answered last: strict, bounded JSON, never pickle.

A file that is missing, too large or anything but what this module writes is as good as none: a node can always start
from its bootstrap addresses. Writing is durable; both functions block.
Specification: ``docs/specification/dht.md``, "Saved nodes".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libreseed import limits, wire
from libreseed.adapters.files.durable import durable_write
from libreseed.dht.addresses import ID_BYTES, NodeInfo, Scope, scope_of
from libreseed.errors import Malformed

__all__ = ["SavedNodes", "load_nodes", "save_nodes"]


@dataclass(frozen=True, slots=True)
class SavedNodes:
    """A node's id (20 bytes; empty where none was saved) and its good nodes."""

    node_id: bytes
    nodes: tuple[NodeInfo, ...]


NONE = SavedNodes(b"", ())


def load_nodes(path: Path) -> SavedNodes:
    """Read the file; whatever is wrong with it, the answer is then ``NONE``."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.DHT_STATE_BYTES + 1)
        fields = wire.require_members(wire.parse(data, max_bytes=limits.DHT_STATE_BYTES), ("id", "nodes"))
        if not isinstance(fields["nodes"], list) or len(fields["nodes"]) > limits.DHT_STATE_NODES:
            return NONE
        return SavedNodes(_id(fields["id"]), tuple(_node(row) for row in fields["nodes"]))
    except (OSError, Malformed):
        return NONE


def save_nodes(path: Path, saved: SavedNodes) -> None:
    """Replace the file in one step; ``OSError`` passes through."""
    rows = [[node.node_id.hex(), node.endpoint[0], node.endpoint[1]] for node in saved.nodes[: limits.DHT_STATE_NODES]]
    durable_write(path, wire.canonical({"id": saved.node_id.hex(), "nodes": rows}), 0o600)


def _id(text: wire.JsonValue) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * ID_BYTES or set(text) - set("0123456789abcdef"):
        raise Malformed("encoding.hash-text", "a node id is 40 lower-case hex digits")
    return bytes.fromhex(text)


def _node(row: wire.JsonValue) -> NodeInfo:
    if not isinstance(row, list) or len(row) != 3:
        raise Malformed("encoding.type", "a node is a list of id, host and port")
    node_id, host, port = row
    if not isinstance(host, str) or "%" in host or scope_of(host) is Scope.UNUSABLE:
        raise Malformed("encoding.type", "a host is a numeric address")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise Malformed("encoding.number", "a port is an integer from 1 to 65535")
    return NodeInfo(_id(node_id), (host, port))
