"""A forward proxy on loopback, for what has to go through one."""

from __future__ import annotations

import trio

__all__ = ["Proxy"]


class Proxy:
    """A forward proxy: whole URLs for http, tunnels for https; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)

    async def _serve(self, client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await client.receive_some()
            if not data:
                return
            head += data
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        self.asked.append(f"{method.decode()} {target.decode()}")
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
        else:
            host, _, port = target.decode().split("/")[2].rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as server:
            if method == b"CONNECT":
                await client.send_all(b"HTTP/1.1 200 X\r\n\r\n")
            else:
                path = b"/" + target.split(b"/", 3)[3]  # one request for each connection
                await server.send_all(head.replace(target, path, 1).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pipe, client, server, nursery.cancel_scope)
                nursery.start_soon(_pipe, server, client, nursery.cancel_scope)


async def _pipe(source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
    """Hand on what comes until one of the two has enough; then ``both`` directions end."""
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()
