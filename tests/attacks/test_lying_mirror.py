"""Mirrors that do everything wrong: an honest one beside each must be enough, the culprit is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from libreseed import limits
from libreseed.limits import CHUNK_BYTES
from services.resolver.mirror_options import MirrorOptions
from services.resolver.outcome import Outcome
from tests.mirror_support import Asked, FakeMirror, Temper, content_range, files_of, start, tgz_path, without_chunks
from tests.resolver_support import KEY, Sample, Scene, assert_installed, leftovers, make_sample, rejects, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("lying-mirror"), 600_000)


@asynccontextmanager
async def stage(tmp_path: Path, sample: Sample) -> AsyncIterator[Scene]:
    async with scene(tmp_path, sample, publish=False) as it:
        yield it


async def resolve(it: Scene, *mirrors: FakeMirror, **changes: object) -> Outcome:
    return await it.resolve(bootstrap=(), mirrors=MirrorOptions(tuple(mirror.url for mirror in mirrors)), **changes)


def told(outcome: Outcome, mirror: FakeMirror) -> str:
    """The reason that the report gives against ``mirror``; "" for none."""
    return next((fault["reason"] for fault in outcome.sources["faults"] if fault["source"] == mirror.url), "")


def on_content(answer: Temper) -> Temper:
    """Only ranges of the .tgz are answered with ``answer``."""

    async def temper(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        return asked.path.endswith(".tgz") and await answer(mirror, asked, stream)

    return temper


def body_of(mirror: FakeMirror, asked: Asked) -> bytes:
    assert asked.span is not None
    return mirror.files[asked.path][slice(*asked.span)]


def head_of(asked: Asked) -> bytes:
    """The head of an honest answer."""
    assert asked.span is not None
    length = asked.span[1] - asked.span[0]
    return f"HTTP/1.1 206 X\r\nContent-Length: {length}\r\n{content_range(asked.span, 602263)}\r\n\r\n".encode()


async def send_range(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream, body: bytes, *fields: str) -> bool:
    assert asked.span is not None
    await mirror.reply(stream, 206, body, content_range(asked.span, len(mirror.files[asked.path])), *fields)
    return True


@on_content
async def truncating(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """Announces everything, and hangs up within the first chunk."""
    await stream.send_all(head_of(asked) + body_of(mirror, asked)[:1000])
    return True


@on_content
async def misplacing(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """Another place in Content-Range than was asked for."""
    assert asked.span is not None
    span = asked.span[0] + 1, asked.span[1] + 1
    await mirror.reply(stream, 206, body_of(mirror, asked), content_range(span, 602263))
    return True


@on_content
async def endless(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """Good bytes are followed by others for ever, in chunked coding, which has no end to be held to."""
    assert asked.span is not None
    head = f"HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n{content_range(asked.span, 602263)}\r\n\r\n"
    await stream.send_all(head.encode())
    junk = b"10000\r\n" + b"\x55" * 65536 + b"\r\n"
    while True:
        await stream.send_all(junk)
        mirror.sent += 65536


@on_content
async def announcing_more(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """A longer body than the range asked for."""
    return await send_range(mirror, asked, stream, body_of(mirror, asked) + bytes(10_000))


@on_content
async def whole_file(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """200 and the file, as a simple server does that knows of no ranges."""
    await mirror.reply(stream, 200, mirror.files[asked.path])
    return True


@on_content
async def larger_than_the_file(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """200 and more than the whole file instead of 206 and a range."""
    await mirror.reply(stream, 200, mirror.files[asked.path] + bytes(1))
    return True


@on_content
async def whole_without_a_length(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """200, and nobody knows how much there will be."""
    body = mirror.files[asked.path]
    await stream.send_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body))
    return True


@on_content
async def whole_file_of_junk(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """200 and as many bytes as the file has, none of them right."""
    await mirror.reply(stream, 200, bytes(len(mirror.files[asked.path])))
    return True


@on_content
async def encoding(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """Says that the body is gzip: a client that unpacks it would fill its memory."""
    return await send_range(mirror, asked, stream, body_of(mirror, asked), "Content-Encoding: gzip")


@on_content
async def dripping(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """A byte now and then: it is never silent, and never done."""
    await stream.send_all(head_of(asked))
    for byte in body_of(mirror, asked):
        await stream.send_all(bytes([byte]))
        await trio.sleep(0.05)
    return True


@on_content
async def not_http(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """Something else than HTTP."""
    await stream.send_all(b"\x00\xff" * 20_000)
    return True


def redirecting(location: str) -> Temper:
    async def temper(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        await mirror.reply(stream, 302, b"", f"Location: {location}")
        return True

    return temper


CASES = {
    "truncated": (truncating, "http.cut-off"),
    "content-range": (misplacing, "http.range"),
    "endless": (endless, "source.mirror-lies"),
    "longer": (announcing_more, "http.range"),
    "200-instead-of-206": (larger_than_the_file, "http.range"),
    "200-of-any-length": (whole_without_a_length, "http.range"),
    "gzip": (encoding, "http.encoding"),
    "no-http": (not_http, "http.protocol"),
    "metadata-service": (on_content(redirecting("http://169.254.169.254/latest/meta-data/")), "http.redirect"),
    "loopback": (on_content(redirecting("http://127.0.0.1:22/")), "http.redirect"),
    "other-scheme": (on_content(redirecting("https://example.org/x.tgz")), "http.redirect"),
    "file": (on_content(redirecting("file:///etc/passwd")), "http.redirect"),
}


@pytest.mark.parametrize("case", CASES)
async def test_an_honest_mirror_makes_up_for_one_that_breaks_the_rules(
    tmp_path: Path, sample: Sample, case: str
) -> None:
    temper, reason = CASES[case]
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files_of(sample), temper)
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        # One that is not asked often enough to be dropped is named as unsteady.
        assert told(outcome, liar) in {reason, "source.unsteady"}
        assert told(outcome, honest) == ""
        assert outcome.sources["received"]["total"] < 1.2 * sample.minimal.size


@pytest.mark.parametrize("case", CASES)
async def test_alone_it_gets_nothing_installed_and_is_not_asked_for_ever(
    tmp_path: Path, sample: Sample, case: str
) -> None:
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files_of(sample), CASES[case][0])
        with rejects("source.incomplete"):
            await resolve(it, liar)
        assert [name for name in leftovers(it.store) if not name.startswith("staging")] == []
        assert len(liar.asked) < 40


async def test_a_mirror_of_junk_costs_a_few_chunks(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, without_chunks(files_of(sample), sample, range(sample.layout.grid.n)))
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, liar) == "source.mirror-lies"
        assert outcome.sources["mirrors"][liar.url] <= 8 * CHUNK_BYTES


async def test_a_whole_file_of_junk_costs_that_file_once(tmp_path: Path, sample: Sample) -> None:
    """From a server without ranges: what it gave is judged like a range, and it is not asked to send it again."""
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files_of(sample), whole_file_of_junk)
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, liar) == "source.mirror-lies"
        assert [asked.path for asked in liar.asked].count(tgz_path(sample)) == 1
        assert outcome.sources["mirrors"][liar.url] == sample.minimal.size


async def test_whole_files_of_junk_alone_install_nothing(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files_of(sample), whole_file_of_junk)
        with rejects("source.incomplete"):
            await resolve(it, liar)
        assert [name for name in leftovers(it.store) if not name.startswith("staging")] == []
        assert [asked.path for asked in liar.asked].count(tgz_path(sample)) == 1


async def test_a_whole_file_that_is_too_large_is_not_read(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MIRROR_WHOLE_BYTES", sample.minimal.size - 1)
    async with stage(tmp_path, sample) as it:
        whole = await start(it.nursery, files_of(sample), whole_file)
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, whole, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, whole) in {"http.range", "source.unsteady"}
        assert outcome.sources["received"]["total"] < 1.2 * sample.minimal.size


@on_content
async def whole_file_slowly(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
    """200 and the file, for longer than a mirror may be silent, and never silent."""
    body = mirror.files[asked.path]
    await stream.send_all(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(body))
    for at in range(0, len(body), CHUNK_BYTES):
        await stream.send_all(body[at : at + CHUNK_BYTES])
        mirror.sent += CHUNK_BYTES
        await trio.sleep(0.03)
    return True


async def test_a_whole_file_may_take_as_long_as_it_keeps_coming(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        slow = await start(it.nursery, files_of(sample), whole_file_slowly)
        outcome = await resolve(it, slow)
        assert_installed(sample, outcome.path)
        assert [asked.path for asked in slow.asked].count(tgz_path(sample)) == 1


async def test_whole_files_on_their_way_count_as_memory(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MIRROR_WHOLES_BYTES", sample.minimal.size)
    async with stage(tmp_path, sample) as it:
        slow = [await start(it.nursery, files_of(sample), whole_file_slowly) for _ in range(5)]
        outcome = await resolve(it, *slow)
        assert_installed(sample, outcome.path)
        assert sorted(mirror.sent // sample.minimal.size for mirror in slow)[:-1] == [0] * 4
        assert outcome.sources["received"]["total"] < 1.2 * sample.minimal.size


async def test_dripping_bytes_hold_nobody_up(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        slow = await start(it.nursery, files_of(sample), dripping)
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, slow, honest)
        assert_installed(sample, outcome.path)
        assert outcome.sources["mirrors"][slow.url] < 4 * CHUNK_BYTES


async def test_dripping_bytes_alone_end_as_a_fault(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        slow = await start(it.nursery, files_of(sample), dripping)
        with rejects("source.incomplete"):
            await resolve(it, slow)


async def test_another_releases_bytes_are_not_taken(tmp_path: Path, sample: Sample) -> None:
    other = make_sample(tmp_path / "other", 610_000, timestamp=2000)
    async with stage(tmp_path, sample) as it:
        swapped = files_of(sample) | {tgz_path(sample): other.files.tgz.read_bytes()}
        liar = await start(it.nursery, swapped)
        honest = await start(it.nursery, files_of(sample))
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, liar) in {"source.mirror-lies", "source.damaged"}  # some files of both are the same


@pytest.mark.parametrize("name", ["torrent", "chunks"])
async def test_a_forged_document_is_passed_over_and_its_mirror_named(tmp_path: Path, sample: Sample, name: str) -> None:
    files = files_of(sample)
    path = f"/packages/{sample.minimal.release}/{name}"
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files | {path: files[path][:-1] + b"x"})
        honest = await start(it.nursery, files)
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, liar) in {"torrent.info-hash", "torrent.bencode", "torrent.layers", "chunkmap.digest"}


async def test_a_stale_record_does_not_win_over_a_newer_one(tmp_path: Path, sample: Sample) -> None:
    newer = make_sample(tmp_path / "newer", 600_000, timestamp=5000)
    async with stage(tmp_path, sample) as it:
        stale = await start(it.nursery, files_of(sample))
        fresh = await start(it.nursery, files_of(newer))
        outcome = await resolve(it, stale, fresh)
        assert outcome.minimal.timestamp == 5000
        assert told(outcome, stale) == "source.mirror-stale"


async def test_a_stale_record_alone_meets_the_floor(tmp_path: Path, sample: Sample) -> None:
    newer = make_sample(tmp_path / "newer", 600_000, timestamp=5000)
    async with stage(tmp_path, newer) as it:
        first = await resolve(it, await start(it.nursery, files_of(newer)))
        before = Path(first.path).stat().st_ino
        stale = await start(it.nursery, files_of(sample))
        with rejects("floor.rollback", step=3):
            await resolve(it, stale, out=tmp_path / "again")
        assert not (tmp_path / "again" / str(sample.minimal.release)).exists()
        assert Path(first.path).stat().st_ino == before


async def test_a_record_by_a_stranger_is_never_used(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        mirror = await start(it.nursery, files_of(sample))
        request = replace(it.options().request, publisher=None)
        with rejects("trust.unknown-publisher") as caught:
            await resolve(it, mirror, request=request)
        assert str(KEY.public) in caught[0].message
        assert leftovers(it.store) == []


async def test_a_record_that_does_not_verify_is_refused(tmp_path: Path, sample: Sample) -> None:
    files = files_of(sample)
    path = f"/packages/{sample.minimal.release}/minimal.json"
    forged = files[path].replace(b'"size":', b'"size":1')
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files | {path: forged})
        with rejects("minimal.binding"):
            await resolve(it, liar)
        assert leftovers(it.store) == []
        honest = await start(it.nursery, files)
        outcome = await resolve(it, liar, honest)
        assert_installed(sample, outcome.path)
        assert told(outcome, liar) == "minimal.binding"


async def test_redirects_of_documents_obey_the_same_rules(tmp_path: Path, sample: Sample) -> None:
    async with stage(tmp_path, sample) as it:
        liar = await start(it.nursery, files_of(sample), redirecting("http://169.254.169.254/latest/meta-data/"))
        with rejects("source.none") as caught:
            await resolve(it, liar)
        assert "169.254.169.254" in caught[0].message
