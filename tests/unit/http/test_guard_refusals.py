"""A refusal that nobody reads any more ends quietly: it is no defect of the server."""

from __future__ import annotations

from typing import Any

import trio

from libreseed.adapters.http.connections import Connection, Connections, SteadyStream
from libreseed.adapters.http.guards import Guard, GuardOptions, Message, Receive, Scope, Send


async def test_a_refusal_to_a_client_that_has_left_ends_quietly() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    accepted = await listeners[0].accept()
    peer = accepted.socket.getpeername()[:2]
    connections = Connections(10, 10)
    connection = Connection(SteadyStream(accepted, 5.0), peer)
    assert connections.admit(connection)
    connection.abort()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("refused before it is asked")

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        raise AssertionError("nothing is sent")

    scope: dict[str, Any] = {"type": "http", "client": peer, "headers": [(b"content-length", b"100")]}
    await Guard(app, GuardOptions(10, 1.0, 1.0), connections=connections)(scope, receive, send)
    await client.aclose()
    await listeners[0].aclose()
