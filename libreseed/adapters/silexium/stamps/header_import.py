"""Where block headers come from: a file, any URL that serves the raw bytes, or a Bitcoin Core node.

Nobody is believed: what arrives is put into a temporary file (bounded) and goes through :meth:`HeaderStore.add`.
Specification: ``silexium-time.md``, 6.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import trio

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.errors import TransportFault, UsageFault
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, digest_of

__all__ = ["HASH_PLACE", "BitcoinNode", "import_file", "import_from_node", "import_url", "read_cookie"]

HASH_PLACE = "{hash}"  # in a URL: the hash of the last header at hand
_MOST = HEADER_BYTES * limits.BITCOIN_HEADERS
_PER_REQUEST = 500  # headers asked of a node at once
_ANSWER_BYTES = 400 * _PER_REQUEST
_COOKIE_BYTES = 1024
_PER_ANSWER = 10_000  # headers in one answer; Bitcoin Core gives 2000
Progress = Callable[[int], None]


def import_file(store: HeaderStore, path: Path, *, now: int, base: int = 0, progress: Progress | None = None) -> int:
    """Add the raw headers in ``path``; returns how many are new. Blocks."""
    try:
        with path.open("rb") as file:
            return store.add(file, now=now, base=base, progress=progress)
    except OSError as error:
        raise from_oserror(error, "reading block headers") from error


async def import_url(
    store: HeaderStore, client: HttpClient, url: str, *, now: int, base: int = 0, progress: Progress | None = None
) -> int:
    """Add what ``url`` serves: raw headers from anywhere in the chain on; returns how many are new.

    With ``{hash}`` in it (Bitcoin Core's REST: ``.../rest/headers/2000/{hash}.bin``) it is asked again and again for
    what follows the last header at hand.
    """
    if HASH_PLACE in url:
        if base and not store.record.count:
            raise UsageFault("usage", "an empty store follows a URL with {hash} from the genesis block on only")
        return await _follow_url(store, client, url, now, progress)
    with _scratch(store) as file:
        async with client.stream(url, most=_MOST) as stream:
            stream.require()
            async for chunk in stream.chunks():
                await trio.to_thread.run_sync(file.write, chunk)
        return await _add(store, file, now, base, progress)


async def _follow_url(store: HeaderStore, client: HttpClient, url: str, now: int, progress: Progress | None) -> int:
    """Ask from the last header at hand on; where the server does not know it (an orphan), from earlier ones."""
    added, height, step = 0, store.record.tip, 1
    while True:
        raw = store.headers(height, 1) if store.record.count else store.network.genesis
        answer = await client.get(url.replace(HASH_PLACE, digest_of(raw)[::-1].hex()), most=HEADER_BYTES * _PER_ANSWER)
        if answer.status == 200 and len(answer.body) > HEADER_BYTES:
            new = await _add(store, io.BytesIO(answer.body), now, 0, None)
            added, height, step = added + new, store.record.tip, 1
            if progress is not None:
                progress(added)
            if new:
                continue
        elif answer.status == 404 or not answer.body:
            if height > store.record.base:
                height, step = max(height - step, store.record.base), step * 2
                continue
            answer.require()
        answer.require()
        return added


async def import_from_node(
    store: HeaderStore, node: BitcoinNode, *, now: int, base: int = 0, progress: Progress | None = None
) -> int:
    """Add what a node has beyond what it and the store have in common; returns how many are new."""
    tip = await node.height()
    height = await _common_height(store, node, tip) if store.record.count else base
    with _scratch(store) as file:
        for start in range(height, tip + 1, _PER_REQUEST):
            data = await node.headers(range(start, min(start + _PER_REQUEST, tip + 1)))
            await trio.to_thread.run_sync(file.write, data)
            if progress is not None:
                progress(start - height)
        return await _add(store, file, now, base, progress)


class BitcoinNode:
    """A Bitcoin Core node's JSON-RPC at ``url``; ``login`` is ``user:password``, as a cookie file holds it."""

    def __init__(self, client: HttpClient, url: str, login: str = "") -> None:
        self._client = client
        self._url = url
        token = base64.b64encode(login.encode()).decode()
        self._headers = {"authorization": f"Basic {token}"} if login else {}

    async def height(self) -> int:
        """The height of the node's last block."""
        (height,) = await self._call([("getblockcount", [])])
        if type(height) is not int or not 0 <= height <= limits.BITCOIN_HEIGHT:
            raise TransportFault("http.protocol", f"{self._url} gives no height")
        return height

    async def hashes(self, heights: range) -> list[str]:
        """The hashes of these blocks, in display order; unverified."""
        found = await self._call([("getblockhash", [height]) for height in heights])
        if not all(isinstance(text, str) and len(text) == 64 for text in found):
            raise TransportFault("http.protocol", f"{self._url} gives no block hashes")
        return found

    async def headers(self, heights: range) -> bytes:
        """The raw headers of these blocks; unverified."""
        texts = await self._call([("getblockheader", [text, False]) for text in await self.hashes(heights)])
        try:
            data = b"".join(map(bytes.fromhex, texts))
        except (ValueError, TypeError) as error:
            raise TransportFault("http.protocol", f"{self._url} gives no headers") from error
        if len(data) != HEADER_BYTES * len(heights):
            raise TransportFault("http.protocol", f"{self._url} gives {len(data)} bytes for {len(heights)} headers")
        return data

    async def _call(self, calls: list[tuple[str, list[object]]]) -> list[Any]:
        """One JSON-RPC batch; the results in the order of the calls."""
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
            for number, (method, parameters) in enumerate(calls)
        ]
        answer = await self._client.post(
            self._url, json.dumps(batch).encode(), "application/json", most=_ANSWER_BYTES, headers=self._headers
        )
        if answer.status in (401, 403):
            raise UsageFault("config.node", f"{self._url} refuses the login")
        answers = answer.require(200, 500).json()
        try:
            results = {item["id"]: item for item in answers}
            for item in answers:
                if item.get("error") is not None:
                    message = f"{self._url}: {item['error'].get('message')!r:.200}"
                    raise TransportFault("http.status", message)
            return [results[number]["result"] for number in range(len(calls))]
        except (KeyError, TypeError, AttributeError) as error:
            raise TransportFault("http.protocol", f"{self._url} does not answer as a Bitcoin node does") from error


def read_cookie(path: Path) -> str:
    """The login that Bitcoin Core leaves in its ``.cookie`` file; raises :class:`UsageFault` ``config.node``."""
    data = read_bounded(path, _COOKIE_BYTES)
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if len(data) > _COOKIE_BYTES or ":" not in text or not text.isprintable():
        raise UsageFault("config.node", f"{path} holds no user:password")
    return text


async def _common_height(store: HeaderStore, node: BitcoinNode, tip: int) -> int:
    """The height behind the last header that both have, looking back in growing steps."""
    height, step = min(store.record.tip, tip), 1
    while height > store.record.base:
        (theirs,) = await node.hashes(range(height, height + 1))
        if digest_of(store.headers(height, 1))[::-1].hex() == theirs:
            return height + 1
        height, step = max(height - step, store.record.base), step * 2
    return height


async def _add(store: HeaderStore, file: BinaryIO, now: int, base: int, progress: Progress | None) -> int:
    def work() -> int:
        file.seek(0)
        return store.add(file, now=now, base=base, progress=progress)

    return await trio.to_thread.run_sync(work)


@contextmanager
def _scratch(store: HeaderStore) -> Iterator[BinaryIO]:
    """A file without a name, on the disk where the headers go."""
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.folder) as file:
            yield file
    except OSError as error:
        raise from_oserror(error, "storing block headers") from error
