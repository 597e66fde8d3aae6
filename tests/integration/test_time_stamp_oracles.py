"""Other people's programs as the second opinion: openssl and the OpenTimestamps client against what is embedded."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from libreseed.adapters.http.client import HttpClient, HttpClientOptions
from libreseed.adapters.silexium.database import open_database
from libreseed.adapters.silexium.stamps.calendar_client import HttpCalendar
from libreseed.adapters.silexium.stamps.embedded import EMBEDDED_LABEL, EmbeddedWorld, embedded_world
from libreseed.adapters.silexium.stamps.embedded_app import embedded_app
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.header_import import BitcoinNode, import_from_node, import_url
from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.adapters.silexium.stamps.stamp_queue import STAMP_SCHEMA
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.adapters.silexium.stamps.tsa_client import HttpTsa
from libreseed.errors import ProofRejected, TransportFault, UsageFault
from libreseed.silexium.bitcoin_headers import REGTEST
from libreseed.silexium.embedded_tsa import EMBEDDED_POLICY
from libreseed.silexium.ots import attested_block, parse_ots
from libreseed.silexium.rfc3161 import TrustedTsa, verify_time_stamp
from libreseed.silexium.stamp_job import Pace
from tests.bitcoin_node_support import node_app, serving
from tests.tools import require_program
from tests.tsa_support import POLICY
from tests.unit.silexium.test_header_store import mined
from tests.unit.silexium.test_rfc3161 import OpensslTsa

pytestmark = pytest.mark.integration
MESSAGE = b'{"an":"attestation"}'
OTS = Path(sys.executable).with_name("ots")
LOCAL = HttpClientOptions(timeout=20, total=40, use_proxies=False)


@pytest.fixture
def world(tmp_path: Path) -> EmbeddedWorld:
    return embedded_world(tmp_path / "world")


async def run(folder: Path, *command: object, check: bool = True) -> tuple[int, str]:
    """A program's exit code and all that it prints; no proxy, no home of ours."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    with trio.fail_after(60):
        done = await trio.run_process(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0 or not check, text
    return done.returncode, text


# --- openssl --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
async def test_openssl_accepts_what_the_embedded_authority_answers(
    tmp_path: Path, world: EmbeddedWorld, digest: str
) -> None:
    openssl = require_program("openssl")
    (tmp_path / "message").write_bytes(MESSAGE)
    (tmp_path / "root.pem").write_text(world.root_pem)
    await run(tmp_path, openssl, "ts", "-query", "-data", "message", f"-{digest}", "-cert", "-out", "query.tsq")
    async with serving(embedded_app(world)) as url, HttpClient(LOCAL) as client:
        query = (tmp_path / "query.tsq").read_bytes()
        answer = await client.post(f"{url}/tsa", query, "application/timestamp-query", most=32768)
    assert answer.headers["content-type"] == "application/timestamp-reply"
    assert answer.headers["x-libreseed"] == EMBEDDED_LABEL
    (tmp_path / "reply.tsr").write_bytes(answer.require().body)
    verify = [openssl, "ts", "-verify", "-in", "reply.tsr", "-CAfile", "root.pem"]
    await run(tmp_path, *verify, "-data", "message")
    await run(tmp_path, *verify, "-queryfile", "query.tsq")
    (tmp_path / "message").write_bytes(MESSAGE + b" ")
    code, text = await run(tmp_path, *verify, "-data", "message", check=False)
    assert code != 0 and "FAILED" in text
    _, text = await run(tmp_path, openssl, "ts", "-reply", "-in", "reply.tsr", "-text")
    assert "Status: Granted." in text and EMBEDDED_POLICY in text


async def test_openssl_reads_the_embedded_authoritys_refusals(tmp_path: Path, world: EmbeddedWorld) -> None:
    openssl = require_program("openssl")
    for name, request in (("garbage", b"garbage"), ("sha1", await _sha1_query(tmp_path, openssl))):
        (tmp_path / f"{name}.tsr").write_bytes(world.answer(request))
        _, text = await run(tmp_path, openssl, "ts", "-reply", "-in", f"{name}.tsr", "-text")
        assert "Status: Rejected." in text


async def _sha1_query(folder: Path, openssl: str) -> bytes:
    (folder / "message").write_bytes(MESSAGE)
    await run(folder, openssl, "ts", "-query", "-data", "message", "-sha1", "-out", "sha1.tsq")
    return (folder / "sha1.tsq").read_bytes()


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("chain", [False, True], ids=["root", "chain"])
async def test_the_queue_gets_stamps_from_an_authority_that_is_openssl(tmp_path: Path, kind: str, chain: bool) -> None:
    """Our request, with its nonce and policy, answered by ``openssl ts -reply`` over HTTP, and taken."""
    openssl = OpensslTsa(tmp_path, kind, chain)

    def reply(query: bytes) -> bytes:
        (tmp_path / "asked.tsq").write_bytes(query)
        keys = ["-signer", "tsa.pem", "-inkey", "tsa.key", *(["-chain", "chain.pem"] if chain else [])]
        openssl.run("-reply", "-config", "tsa.cnf", "-queryfile", "asked.tsq", *keys, "-out", "answer.tsr")
        return (tmp_path / "answer.tsr").read_bytes()

    async def answer(request: Request) -> Response:
        assert request.headers["content-type"] == "application/timestamp-query"
        body = await trio.to_thread.run_sync(reply, await request.body())
        return Response(body, media_type="application/timestamp-reply")

    now = int(time.time())
    with open_database(tmp_path / "silexium.db", [STAMP_SCHEMA]) as database:
        async with (
            serving(Starlette(routes=[Route("/", answer, methods=["POST"])])) as url,
            HttpClient(LOCAL) as client,
        ):
            trusted = TrustedTsa("openssl", openssl.root.der, policy=POLICY)
            stamping = Stamping(database, [HttpTsa(f"{url}/", trusted, client)], [], lambda: HeaderStore(tmp_path))
            await stamping.want([MESSAGE], now)
            step = await stamping.advance(now)
        assert [refusal.error for refusal in step.refused] == []
        (token,) = (await stamping.status(MESSAGE)).tokens
    assert verify_time_stamp(token, MESSAGE, [trusted], now=now).tsa == "openssl"
    (tmp_path / "message").write_bytes(MESSAGE)
    openssl.accepts(token)


# --- the OpenTimestamps client ----------------------------------------------------------------------------------------


async def test_the_reference_client_stamps_upgrades_and_verifies_and_so_do_we(
    tmp_path: Path, world: EmbeddedWorld
) -> None:
    world.mines = False
    (tmp_path / "one").write_bytes(MESSAGE)
    (tmp_path / "two").write_bytes(MESSAGE * 2)
    async with serving(embedded_app(world)) as url, serving(node_app(world.headers)) as node:
        world.uri = url
        ots = [OTS, "--no-cache", "-l", url]
        verify = [*ots, "--btc-regtest", "--bitcoin-node", node.replace("://", "://u:p@"), "verify"]
        await run(tmp_path, *ots, "stamp", "-m", "1", "-c", url, "one", "two")
        digest = hashlib.sha256(MESSAGE).digest()
        pending = parse_ots((tmp_path / "one.ots").read_bytes(), digest)
        assert [promise.uri for promise in pending.pending] == [url] and not pending.bitcoin
        code, text = await run(tmp_path, *ots, "upgrade", "one.ots", check=False)
        assert code != 0 and "Pending confirmation" in text
        world.mine()
        await run(tmp_path, *ots, "upgrade", "one.ots", "two.ots")
        _, text = await run(tmp_path, *verify, "one.ots")
        assert "Success! Bitcoin block 1 attests existence" in text
        proof = parse_ots((tmp_path / "one.ots").read_bytes(), digest)
        assert attested_block(proof, [world.chain()])[1] == 1
        (tmp_path / "two").write_bytes(MESSAGE)
        code, _ = await run(tmp_path, *verify, "two.ots", check=False)
        assert code != 0


async def test_the_reference_client_verifies_the_proofs_that_our_queue_gets(
    tmp_path: Path, world: EmbeddedWorld
) -> None:
    world.mines = False
    database = open_database(tmp_path / "silexium.db", [STAMP_SCHEMA])
    now = world.clock()
    async with (
        serving(embedded_app(world)) as url,
        serving(node_app(world.headers)) as node,
        HttpClient(LOCAL) as client,
    ):
        world.uri = url
        authority = HttpTsa(f"{url}/tsa", EmbeddedTimeStampService(world).trusted, client)
        calendar = HttpCalendar("calendar", url, client)
        stamping = Stamping(database, [authority], [calendar], world.chain, pace=Pace(poll_first=10))
        await stamping.want([MESSAGE], now)
        step = await stamping.advance(now)
        assert not step.refused
        (job,) = (await stamping.status(MESSAGE)).open
        (tmp_path / "pending.ots").write_bytes(job.promise or b"")
        _, text = await run(tmp_path, OTS, "info", "pending.ots")
        assert f"PendingAttestation('{url}')" in text
        assert not (await stamping.advance(now + 10)).done
        world.mine()
        assert len((await stamping.advance(now + 100)).done) == 1
        status = await stamping.status(MESSAGE)
        (tmp_path / "message").write_bytes(MESSAGE)
        (tmp_path / "message.ots").write_bytes(status.proofs[0])
        bitcoin = ["--btc-regtest", "--bitcoin-node", node.replace("://", "://u:p@")]
        _, text = await run(tmp_path, OTS, "--no-cache", *bitcoin, "verify", "message.ots")
        assert "Success! Bitcoin block 1 attests existence" in text
        openssl = require_program("openssl")
        (tmp_path / "root.pem").write_text(world.root_pem)
        (tmp_path / "token.tsr").write_bytes(status.tokens[0])
        await run(tmp_path, openssl, "ts", "-verify", "-data", "message", "-in", "token.tsr", "-CAfile", "root.pem")
    database.close()


# --- headers over HTTP ----------------------------------------------------------------------------------------------


async def test_headers_come_from_a_node_and_from_any_url(tmp_path: Path, world: EmbeddedWorld) -> None:
    now = world.clock()
    for number in range(5):
        world.proof(b"message %d" % number)
    stores = [HeaderStore(tmp_path / name, REGTEST) for name in ("node", "url")]
    async with (
        serving(embedded_app(world)) as url,
        serving(node_app(world.headers)) as node,
        HttpClient(LOCAL) as client,
    ):
        bitcoin = BitcoinNode(client, node, "u:p")
        assert await import_from_node(stores[0], bitcoin, now=now) == 6
        assert await import_url(stores[1], client, f"{url}/headers", now=now) == 6
        world.proof(b"one more")
        assert await import_from_node(stores[0], bitcoin, now=now) == 1
        assert await import_from_node(stores[0], bitcoin, now=now) == 0
        assert await import_url(stores[1], client, f"{url}/headers", now=now) == 1
        with pytest.raises(UsageFault) as refusal:
            await import_from_node(stores[0], BitcoinNode(client, node, "u:wrong"), now=now)
        assert refusal.value.reason == "config.node"
    assert stores[0].record == stores[1].record
    assert (tmp_path / "node" / "headers-regtest.bin").read_bytes() == world.headers()


async def test_a_node_that_switches_to_a_stronger_branch_is_followed(tmp_path: Path) -> None:
    data = mined(30)
    store, now = HeaderStore(tmp_path, REGTEST), 1_800_000_000
    branches = [data, mined(25, on=data[: 21 * 80], salt=1)]
    async with serving(node_app(lambda: branches[0])) as node, HttpClient(LOCAL) as client:
        bitcoin = BitcoinNode(client, node, "u:p")
        assert await import_from_node(store, bitcoin, now=now) == 31
        branches.pop(0)
        assert await import_from_node(store, bitcoin, now=now) == 25
    assert (tmp_path / "headers-regtest.bin").read_bytes() == branches[0]


async def test_a_store_that_begins_late_is_filled_from_a_node(tmp_path: Path) -> None:
    data = mined(40)
    pin = (20, hashlib.sha256(hashlib.sha256(data[20 * 80 : 21 * 80]).digest()).digest())
    store, now = HeaderStore(tmp_path, REGTEST, [pin]), 1_800_000_000
    async with serving(node_app(lambda: data)) as node, HttpClient(LOCAL) as client:
        with pytest.raises(UsageFault) as refusal:
            await import_url(store, client, node + "/rest/headers/8/{hash}.bin", now=now, base=16)
        assert refusal.value.reason == "usage"
        assert await import_from_node(store, BitcoinNode(client, node, "u:p"), now=now, base=16) == 25
        assert await import_url(store, client, node + "/rest/headers/8/{hash}.bin", now=now, base=16) == 0
    assert (store.record.base, store.record.tip) == (16, 40)


async def test_headers_are_followed_over_a_nodes_rest_interface(tmp_path: Path) -> None:
    data = mined(30)
    store, now = HeaderStore(tmp_path, REGTEST), 1_800_000_000
    branches = [data[: 21 * 80], data, mined(25, on=data[: 21 * 80], salt=1)]
    async with serving(node_app(lambda: branches[0])) as node, HttpClient(LOCAL) as client:
        url = node + "/rest/headers/8/{hash}.bin"
        assert await import_url(store, client, url, now=now) == 21
        assert await import_url(store, client, url, now=now) == 0
        branches.pop(0)
        assert await import_url(store, client, url, now=now) == 10
        branches.pop(0)  # the last ten are orphans now
        with pytest.raises(ProofRejected) as refusal:
            await import_url(store, client, url, now=now)
        assert refusal.value.reason == "silexium.header-branch"  # eight at a time never outweigh ten
        assert await import_url(store, client, url.replace("/8/", "/2000/"), now=now) == 25
    assert (tmp_path / "headers-regtest.bin").read_bytes() == branches[0]


async def test_a_node_that_lies_about_headers_leaves_nothing_behind(tmp_path: Path) -> None:
    data = bytearray(mined(30))
    data[20 * 80 + 40] ^= 1
    store = HeaderStore(tmp_path, REGTEST)
    async with serving(node_app(lambda: bytes(data))) as node, HttpClient(LOCAL) as client:
        with pytest.raises(ProofRejected) as refusal:
            await import_from_node(store, BitcoinNode(client, node, "u:p"), now=1_800_000_000)
    assert refusal.value.reason in ("silexium.header-work", "silexium.header-link")
    assert store.record.count == 0


# --- what servers do wrong ------------------------------------------------------------------------------------------


async def test_an_oversized_or_slow_answer_is_refused_and_the_others_go_on(
    tmp_path: Path, world: EmbeddedWorld
) -> None:
    """Over real sockets: one authority floods, one hangs, one is a web page, one is good; so with the calendars."""

    async def flood(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})  # type: ignore[operator]

    async def hang(scope: object, receive: object, send: object) -> None:
        await trio.sleep_forever()

    async def page(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"<html>"})  # type: ignore[operator]

    database = open_database(tmp_path / "silexium.db", [STAMP_SCHEMA])
    now, trusted = world.clock(), EmbeddedTimeStampService(world).trusted

    def named(name: str) -> TrustedTsa:
        return TrustedTsa(name, trusted.root, policy=trusted.policy)

    impatient = HttpClientOptions(timeout=1, total=2, use_proxies=False)
    async with (
        serving(flood) as flooding,
        serving(hang) as hanging,
        serving(page) as paging,
        serving(embedded_app(world)) as good,
        HttpClient(impatient) as hasty,
        HttpClient(LOCAL) as patient,
    ):
        world.uri = good
        urls = {"flood": flooding, "hang": hanging, "page": paging, "good": good}
        clients = dict.fromkeys(urls, patient) | {"hang": hasty}
        authorities = [HttpTsa(f"{url}/tsa", named(name), clients[name]) for name, url in urls.items()]
        calendars = [HttpCalendar(name, url, clients[name]) for name, url in urls.items()]
        stamping = Stamping(database, authorities, calendars, world.chain, pace=Pace(poll_first=0))
        await stamping.want([MESSAGE], now)
        step = await stamping.advance(now)
        reasons = {(str(refusal.job.kind), refusal.job.service): refusal.error.reason for refusal in step.refused}
        assert reasons == {
            ("tsa", "flood"): "http.too-large",
            ("tsa", "hang"): "http.timeout",
            ("tsa", "page"): "silexium.tsa",
            ("ots", "flood"): "http.too-large",
            ("ots", "hang"): "http.timeout",
            ("ots", "page"): "silexium.ots",
        }
        await stamping.advance(now)
        status = await stamping.status(MESSAGE)
    database.close()
    assert [job.service for job in status.jobs if job.proof] == ["good", "good"]
    verify_time_stamp(status.tokens[0], MESSAGE, [trusted], now=now)


async def test_a_calendar_answers_only_what_it_should(world: EmbeddedWorld) -> None:
    async with serving(embedded_app(world)) as url, HttpClient(LOCAL) as client:
        calendar = HttpCalendar("calendar", url, client)
        with pytest.raises(TransportFault) as refusal:
            await calendar.timestamp("http://127.0.0.1:1", bytes(44))
        assert refusal.value.reason == "http.redirect"
        assert await calendar.timestamp(url, bytes(44)) is None
        for path, body, status in (
            ("/digest", bytes(65), 413),
            ("/digest", b"short", 400),
            ("/tsa", b"x", 415),
        ):
            answer = await client.post(url + path, body, "application/octet-stream", most=4096)
            assert answer.status == status
        for path, status in (("/timestamp/zz", 400), ("/timestamp/" + "00" * 44, 404), ("/digest", 405)):
            assert (await client.get(url + path, most=4096)).status == status
