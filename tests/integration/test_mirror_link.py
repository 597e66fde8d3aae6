"""A connection to a mirror over TLS: whole bodies are read a buffer at a time, and what came before a fault counts."""

from __future__ import annotations

import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.weburl import WebUrl
from libreseed.adapters.mirrors.link import Link
from libreseed.errors import TransportFault
from tests.http_support import make_tls

BODY = random.Random(5).randbytes(300_000)  # 19 records


@asynccontextmanager
async def _asked(folder: Path, given: bytes, *, cleanly: bool, sent: trio.Event | None = None) -> AsyncIterator[Link]:
    """A link on which the head of an answer of ``len(BODY)`` bytes has come; the server ends after ``given``."""
    tls = make_tls(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certfile, tls.keyfile)

    async def server(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=not cleanly)
        await stream.receive_some()
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + given)
            if sent is not None:
                sent.set()
            if cleanly:
                await stream.aclose()
        plain.socket.close()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server, 0, host="127.0.0.1"))
        url = WebUrl.parse(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x")
        trusting = ssl.create_default_context(cafile=str(tls.certfile))
        link = await Link.open(url, tls=trusting, proxy=None, address=None)
        try:
            await link.ask(url)
            yield link
        finally:
            link.close()
        nursery.cancel_scope.cancel()


def _read(link: Link, size: int, heard: Callable[[bytes], None]) -> None:
    """What a thread does with a body: buffers of ``size`` bytes until all has come."""
    memory = memoryview(bytearray(size))
    while link.left:
        count = link.receive_now(memory)
        if count is None:
            assert link.wait(20)
        else:
            heard(bytes(memory[:count]))


@pytest.mark.parametrize("size", [1, 16384, 16385, 100_000, 2**20])
async def test_a_body_over_tls_comes_whole_into_buffers_of_any_size(tmp_path: Path, size: int) -> None:
    portions: list[bytes] = []
    body = BODY if size > 1 else BODY[:2000]
    with trio.fail_after(30):
        async with _asked(tmp_path, BODY, cleanly=True) as link:
            link.left = len(body)
            await trio.to_thread.run_sync(_read, link, size, portions.append)
    assert b"".join(portions) == body
    assert max(map(len, portions)) <= size


async def test_records_that_are_here_are_read_at_once(tmp_path: Path) -> None:
    portions: list[bytes] = []
    with trio.fail_after(30):
        async with _asked(tmp_path, BODY[:100_000], cleanly=True, sent=(sent := trio.Event())) as link:
            await sent.wait()  # on loopback, what was sent is here
            link.left = 100_000
            await trio.to_thread.run_sync(_read, link, 2**20, portions.append)
    assert b"".join(portions) == BODY[:100_000]
    assert len(portions) <= 3, "one of them what came with the head, one the rest of its record"


@pytest.mark.parametrize("cleanly", [True, False], ids=["with a close notice", "cut off"])
async def test_what_came_over_tls_before_the_end_is_given_before_the_fault(tmp_path: Path, cleanly: bool) -> None:
    portions: list[bytes] = []
    with trio.fail_after(30):
        async with _asked(tmp_path, BODY[:120_000], cleanly=cleanly) as link:
            with pytest.raises(TransportFault) as raised:
                await trio.to_thread.run_sync(_read, link, 2**20, portions.append)
    assert raised.value.reason == "http.cut-off"
    assert b"".join(portions) == BODY[:120_000]


async def test_a_document_ends_where_its_length_says(tmp_path: Path) -> None:
    """Also when the server goes on, and what follows comes in one portion with the rest of it."""
    with trio.fail_after(30):
        async with _asked(tmp_path, BODY + b"x" * 50_000, cleanly=True) as link:
            assert await link.whole(10**6) == BODY
            assert link.left == 0
