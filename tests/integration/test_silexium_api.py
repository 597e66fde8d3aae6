"""The API, in process: what is served, what is refused with which status, and that nothing is before its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from libreseed import limits
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.cbor import write_cbor
from libreseed.silexium.install_answer import InstallAnswer, parse_install_answer
from libreseed.silexium.log_memory import parse_conflict
from libreseed.silexium.tree_head import SignedTreeHead, TreeHead
from libreseed.silexium.verification import ReleaseVerification
from services.silexium.api import build_app
from tests.silexium_server_support import ORIGIN, Shop, Workshop, workshop
from tests.silexium_support import private

pytestmark = pytest.mark.integration

LINUX = {"package": "hello", "os": "linux", "arch": "x86_64"}
RELEASES = ("hello@1.0.0", "hello@1.10.0", "hello@1.9.0", "hello@2.0.0-rc.1", "other@0.1.0")
FILES = {"linux": b"for linux", "windows": b"for windows"}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A log of five releases; hello@2.0.0-rc.1 is of channel beta."""
    shop = Shop.make(tmp_path_factory.mktemp("stocked") / "shop")
    for release in RELEASES:
        beta = release.endswith("rc.1")
        place = shop.attested(release, channel="beta" if beta else "stable", binaries=None if beta else FILES)
        shop.ingest(place)
        trio.run(publish, shop)
    return shop


async def publish(shop: Shop) -> None:
    async with workshop(shop) as here:
        await here.publish(int(time.time()))


@dataclass
class Client:
    """Asks the application of a workshop."""

    here: Workshop
    http: httpx.AsyncClient

    async def post(self, path: str, value: object, status: int = 200) -> Any:
        """The answer: an :class:`InstallAnswer`, or the problem."""
        answer = await self.http.post(path, json=value)
        assert answer.status_code == status, answer.text
        return parse_install_answer(answer.content) if status == 200 else problem(answer)

    async def get(self, path: str, status: int = 200) -> httpx.Response:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    members = dict(answer.json())
    assert members["status"] == answer.status_code
    return members


@asynccontextmanager
async def client(shop: Shop) -> AsyncIterator[Client]:
    async with workshop(shop) as here:
        transport = httpx.ASGITransport(build_app(here.api))
        async with httpx.AsyncClient(transport=transport, base_url="http://silexium.test") as http:
            yield Client(here, http)


@pytest.mark.parametrize(
    ("more", "release"),
    [
        ({}, "hello@1.10.0"),
        ({"channel": "stable"}, "hello@1.10.0"),
        ({"channel": "beta"}, "hello@2.0.0-rc.1"),
        ({"version": "1.0.0"}, "hello@1.0.0"),
        ({"version": "2.0.0-rc.1"}, "hello@2.0.0-rc.1"),
        ({"version": "1.9.0", "channel": "stable"}, "hello@1.9.0"),
    ],
)
async def test_the_newest_of_a_channel_or_the_version_asked_for(
    stocked: Shop, more: dict[str, str], release: str
) -> None:
    async with client(stocked) as it:
        for path in ("/install", "/resolve"):
            answer = await it.post(path, LINUX | more)
            assert answer.release == ReleaseId.parse(release)
            policy = stocked.policy()
            verify_bundle(ReleaseVerification(policy, answer.release, now=int(time.time())), answer.bundle)


@pytest.mark.parametrize(
    "more",
    [
        {"package": "nothing"},
        {"version": "3.0.0"},
        {"channel": "nightly"},
        {"version": "1.0.0", "channel": "beta"},
        {"version": "1.0.0+build"},
    ],
)
async def test_what_the_log_does_not_have_is_not_found(stocked: Shop, more: dict[str, str]) -> None:
    async with client(stocked) as it:
        assert (await it.post("/install", LINUX | more, 404))["reason"] == "notfound.version"


async def test_artifacts_are_those_of_the_platform(stocked: Shop) -> None:
    async with client(stocked) as it:
        answers = {}
        for system in ("linux", "windows", "plan9"):
            answers[system] = await it.post("/install", LINUX | {"os": system, "version": "1.0.0"})
    assert [answers[system].binary and answers[system].binary.os for system in answers] == ["linux", "windows", None]
    assert len({answer.source for answer in answers.values()}) == 1


@pytest.mark.parametrize(
    ("current", "up_to_date"),
    [
        ("1.0.0", False),
        ("1.9.0", False),
        ("1.10.0", True),
        ("1.10.0+x", True),
        ("1.11.0-rc.1", True),
        ("1.10.0-a", False),
    ],
)
async def test_an_update_says_whether_there_is_anything_newer(stocked: Shop, current: str, up_to_date: bool) -> None:
    async with client(stocked) as it:
        answer = await it.post("/update", LINUX | {"current_version": current})
    assert (answer.release, answer.up_to_date) == (ReleaseId.parse("hello@1.10.0"), up_to_date)


@pytest.mark.parametrize(
    ("accept", "cbor"),
    [
        ("application/cbor", True),
        ("application/cbor, application/json;q=0.5", True),
        ("text/html, Application/CBOR;q=0.9, */*", True),
        ("application/json, application/cbor", False),
        ("*/*", False),
        ("", False),
    ],
)
async def test_cbor_says_the_same_as_json(stocked: Shop, accept: str, cbor: bool) -> None:
    async with client(stocked) as it:
        asked = LINUX | {"version": "1.0.0"}
        expected = (await it.http.post("/install", json=asked)).content
        for body, media_type in (
            (write_cbor(asked), "application/cbor"),
            (json.dumps(asked).encode(), "application/json"),
        ):
            headers = {"content-type": media_type, "accept": accept}
            answer = await it.http.post("/install", content=body, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == ("application/cbor" if cbor else "application/json")
            assert parse_install_answer(answer.content, cbor=cbor) == parse_install_answer(expected)
        answer = await it.http.post("/install", content=b"\xa0\x00", headers={"content-type": "application/cbor"})
        assert (answer.status_code, problem(answer)["reason"]) == (400, "silexium.request")


# --- heads -----------------------------------------------------------------------------------------------------------


async def test_every_head_of_the_log_leads_to_the_one_that_is_served(stocked: Shop) -> None:
    async with client(stocked) as it:
        key = stocked.site().unlock("log-key")
        for size in range(len(RELEASES) + 1):
            head = TreeHead(ORIGIN, size, Blake3Digest(it.here.log.root_at(size)))
            known = SignedTreeHead.sign(head, int(time.time()) - 60, key)
            answer = await it.post("/install", LINUX | {"known_sth": known.members()})
            if size == 0:
                assert answer.consistency is None
                continue
            assert answer.consistency is not None
            assert (answer.consistency.old, answer.consistency.new) == (size, len(RELEASES))


async def refused_head(stocked: Shop, sth: object, status: int) -> dict[str, Any]:
    async with client(stocked) as it:
        return dict(await it.post("/install", LINUX | {"known_sth": sth}, status))


def head_of(size: int, key: Any, *, origin: str = ORIGIN, root: bytes = b"\x01" * 32) -> dict[str, Any]:
    return dict(SignedTreeHead.sign(TreeHead(origin, size, Blake3Digest(root)), 1_790_000_000, key).members())


async def test_a_head_of_another_log_is_refused(stocked: Shop) -> None:
    sth = head_of(3, stocked.site().unlock("log-key"), origin="other.test/log")
    assert (await refused_head(stocked, sth, 409))["reason"] == "silexium.head-log"


async def test_a_head_that_somebody_else_signed_is_refused(stocked: Shop) -> None:
    assert (await refused_head(stocked, head_of(3, private(9)), 409))["reason"] == "silexium.head-signature"


async def test_a_malformed_head_is_refused(stocked: Shop) -> None:
    assert (await refused_head(stocked, {"tree_size": 3}, 409))["reason"] == "silexium.head"


async def test_a_client_that_has_seen_more_is_told_that_this_server_is_behind(stocked: Shop) -> None:
    sth = head_of(len(RELEASES) + 1, stocked.site().unlock("log-key"))
    answer = await refused_head(stocked, sth, 409)
    assert answer["reason"] == "silexium.behind"
    assert "evidence" not in answer


@pytest.mark.parametrize("size", [1, 3, len(RELEASES)])
async def test_a_head_that_does_not_fit_is_answered_with_the_proof_of_the_fork(stocked: Shop, size: int) -> None:
    answer = await refused_head(stocked, head_of(size, stocked.site().unlock("log-key")), 409)
    assert answer["reason"] == "silexium.fork"
    conflict = parse_conflict(answer["evidence"], stocked.site().log_identity())
    assert (conflict.first.size, conflict.second.size) == (size, len(RELEASES))


# --- what is served, and when ----------------------------------------------------------------------------------------


async def test_nothing_is_served_before_it_is_logged_and_signed_for(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    place = shop.attested("hello@1.0.0")
    async with client(shop) as it:
        now = int(time.time())
        asked = [partial(it.post, "/install", LINUX, 404), partial(it.get, "/bundle/hello@1.0.0", 404)]
        asked += [partial(it.get, path, 404) for path in ("/entries/0", "/tile/0/000.p/1", "/tile/entries/000.p/1")]

        async def hidden() -> None:
            it.here.api._served = None
            for ask in asked:
                await ask()

        assert (await it.get("/checkpoint", 503)).json()["reason"] == "silexium.unready"
        it.here.publication.sign(now)
        await hidden()
        shop.ingest(place)
        await hidden()
        publication: Any = it.here.publication
        publication._request_stamps(now)
        assert shop.states() == {"hello@1.0.0": "pending"}
        await hidden()
        for _ in range(3):
            await publication._stamping.advance(now)
        done = type("Done", (), {"logged": [], "refused": []})()
        publication._collect(now, done, [])
        assert shop.states() == {"hello@1.0.0": "complete"}
        await hidden()
        publication._append(done)
        assert shop.states() == {"hello@1.0.0": "logged"}
        await hidden()  # in the log, but no head covers it yet
        publication.sign(now)
        it.here.api._served = None
        assert (await it.post("/install", LINUX)).release == ReleaseId.parse("hello@1.0.0")
        assert parse_bundle((await it.get("/bundle/hello@1.0.0")).content).inclusion.size == 1


async def test_the_log_is_read_as_static_files(stocked: Shop) -> None:
    async with client(stocked) as it:
        size = len(RELEASES)
        paths = [
            f"/tile/0/000.p/{size}",
            "/tile/0/000.p/1",
            f"/tile/entries/000.p/{size}",
            f"/tile/bodies/000.p/{size}",
        ]
        for path in (*paths, "/entries/0", f"/entries/{size - 1}"):
            answer = await it.get(path)
            assert answer.content == it.here.log.tile(path[1:])
            assert "immutable" in answer.headers["cache-control"]
        assert (await it.get("/checkpoint")).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/000",
        "/tile/0/000.p/6",
        "/tile/1/000.p/1",
        "/tile/0/0",
        "/tile/00/000.p/1",
        "/tile/0/000.p/01",
        "/tile/0/%2e%2e/000.p/1",
        "/tile/",
        "/entries/00",
        "/entries/5",
        "/entries/-1",
        "/entries/\u0663",
        "/entries/99999999999999999999",
        "/bundle/hello",
        "/bundle/hello@9.9.9",
        "/bundle/..%2f..%2fsilexium.db",
        "/bundle/Hello@1.0.0",
        "/log.key",
        "/",
    ],
)
async def test_other_paths_are_not_found(stocked: Shop, path: str) -> None:
    async with client(stocked) as it:
        problem(await it.get(path, 404))


async def test_who_opens_the_servers_address_is_told_where_its_paths_are(stocked: Shop) -> None:
    async with client(stocked) as it:
        told = problem(await it.get("/", 404))
    assert (told["reason"], told["detail"]) == ("http.not-found", "no such path: see /openapi.json")


# --- hostile requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{}", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"package":"hello","os":"linux","arch":"x86_64","package":"other"}', "application/json", 400),
        (b"[" * 8000, "application/json", 400),
        (json.dumps(LINUX).encode(), "text/plain", 415),
        (json.dumps(LINUX).encode(), "", 415),
        (json.dumps(LINUX).encode(), "application/jsonp", 415),
    ],
)
async def test_a_hostile_body_is_refused(stocked: Shop, body: bytes, media_type: str, status: int) -> None:
    async with client(stocked) as it:
        for path in ("/install", "/resolve", "/update"):
            answer = await it.http.post(path, content=body, headers={"content-type": media_type})
            assert answer.status_code == status, answer.text
            problem(answer)


async def test_an_endless_body_is_cut_off(stocked: Shop) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield b" " * 1024
            await trio.lowlevel.checkpoint()

    async with workshop(stocked) as here:
        received: list[int] = []
        stream = endless()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(stream), "more_body": True}

        async def send(message: Any) -> None:
            received.append(message.get("status", 0))

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/install", "headers": headers, "query_string": b""}
        await build_app(here.api)(scope, receive, send)
        await stream.aclose()
    assert received[0] == 413
    assert sent == limits.INSTALL_REQUEST_BYTES + 1024


@pytest.mark.parametrize(("method", "path"), [("GET", "/install"), ("DELETE", "/bundle/hello@1.0.0"), ("PUT", "/keys")])
async def test_other_methods_are_refused(stocked: Shop, method: str, path: str) -> None:
    async with client(stocked) as it:
        answer = await it.http.request(method, path)
        assert answer.status_code == 405
        assert problem(answer)["reason"] == "http.method"
        assert answer.headers["allow"]


async def test_answers_under_one_head_are_made_once_and_bounded(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with client(stocked) as it:
        first = await it.http.post("/install", json=LINUX)
        made = it.here.api._served
        assert made is not None
        monkeypatch.setattr(limits, "ANSWER_CACHE_BYTES", 3 * len(first.content))
        for number in range(8):
            answer = await it.http.post("/install", json=LINUX | {"os": f"os{number}"})
            assert answer.status_code == 200
        assert made._bytes == sum(map(len, made._answers.values())) <= 3 * len(first.content)
        again = await it.http.post("/install", json=LINUX)
        assert again.content == first.content
    assert isinstance(parse_install_answer(first.content), InstallAnswer)


async def test_nobody_waits_for_the_one_who_looks_for_a_new_head(
    stocked: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop(stocked) as here:
        api, go_on = here.api, threading.Event()
        before = await api.served()
        real = api.answers.served

        def slow(known: Any) -> Any:
            assert go_on.wait(30)
            return real(known)

        monkeypatch.setattr(api.answers, "served", slow)
        api.look_again()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(api.served)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(20):
                assert [await api.served() for _ in range(5)] == [before] * 5
            go_on.set()
        assert not api._looking


async def test_a_defect_is_a_problem_document_too_and_says_nothing_about_why(
    stocked: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workshop(stocked) as here:

        def broken(known: Any) -> Any:
            raise ZeroDivisionError("a secret")

        monkeypatch.setattr(here.api.answers, "served", broken)
        transport = httpx.ASGITransport(build_app(here.api), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://silexium.test") as http:
            answer = await http.get("/checkpoint")
    assert (answer.status_code, problem(answer)) == (500, {"status": 500, "reason": "bug"})
