"""What a Bitcoin Core node answers about block headers, out of a run of them; and any ASGI application on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libreseed.adapters.http.server import HttpServerOptions, serve

__all__ = ["node_app", "serving"]


@asynccontextmanager
async def serving(app: Any, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The base URL of ``app`` while it is served."""
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve, app, HttpServerOptions(host=host, rate=None, grace_seconds=0.1))
        yield urls[0].rstrip("/")
        nursery.cancel_scope.cancel()


def node_app(headers: Callable[[], bytes], login: str = "Basic dTpw") -> Starlette:
    """JSON-RPC over ``headers`` from the genesis block on, single calls and batches; ``login`` is u:p unless told."""

    def answer(call: dict[str, Any]) -> dict[str, Any]:
        data = headers()
        blocks = [data[at : at + 80] for at in range(0, len(data), 80)]
        hashes = [hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex() for raw in blocks]
        method, parameters = call["method"], call.get("params", [])
        if method == "getblockcount":
            return {"id": call["id"], "result": len(blocks) - 1, "error": None}
        if method == "getblockhash" and parameters[0] < len(blocks):
            return {"id": call["id"], "result": hashes[parameters[0]], "error": None}
        if method == "getblockheader" and parameters[0] in hashes:
            return {"id": call["id"], "result": blocks[hashes.index(parameters[0])].hex(), "error": None}
        return {"id": call["id"], "result": None, "error": {"code": -8, "message": "Block height out of range"}}

    async def rpc(request: Request) -> Response:
        if request.headers.get("authorization") != login:
            return Response(status_code=401)
        asked = json.loads(await request.body())
        answers = [answer(call) for call in asked] if isinstance(asked, list) else answer(asked)
        return Response(json.dumps(answers), media_type="application/json")

    async def rest(request: Request) -> Response:
        """Bitcoin Core's ``/rest/headers/<count>/<hash>.bin``: from that block on, 404 where it is not in the chain."""
        data = headers()
        blocks = [data[at : at + 80] for at in range(0, len(data), 80)]
        hashes = [hashlib.sha256(hashlib.sha256(raw).digest()).digest()[::-1].hex() for raw in blocks]
        wanted = request.path_params["name"].removesuffix(".bin")
        if wanted not in hashes:
            return Response(status_code=404)
        first = hashes.index(wanted)
        count = request.path_params["count"]
        return Response(b"".join(blocks[first : first + count]), media_type="application/octet-stream")

    routes = [Route("/", rpc, methods=["POST"]), Route("/rest/headers/{count:int}/{name}", rest)]
    return Starlette(routes=routes)
