"""The stamp queue: what is wanted gets stamped in the end, whatever single services do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from asn1crypto import tsp

from libreseed import limits
from libreseed.adapters.http.client import HttpClient
from libreseed.adapters.silexium.stamps.calendar_client import HttpCalendar
from libreseed.adapters.silexium.stamps.embedded import embedded_world
from libreseed.adapters.silexium.stamps.embedded_services import EmbeddedTimeStampService
from libreseed.adapters.silexium.stamps.stamping import Stamping
from libreseed.errors import NotFound, ProofRejected, TransportFault, UsageFault
from libreseed.silexium import embedded_tsa
from libreseed.silexium.bitcoin_headers import REGTEST, HeaderChain, mine_header
from libreseed.silexium.embedded_tsa import EMBEDDED_POLICY
from libreseed.silexium.ots import BitcoinAttestation, PendingAttestation, parse_ots, write_ots, write_timestamp
from libreseed.silexium.rfc3161 import TrustedTsa
from libreseed.silexium.stamp_job import JobState, StampJob, StampKind
from libreseed.silexium.stamps import ProvenTime as Proven
from libreseed.silexium.stamps import TimePolicy, anchored_at, check_order, stamped_at
from tests.silexium_support import NOW
from tests.stamping_support import MESSAGE, PACE, Bench, FakeTsa
from tests.tsa_support import POLICY, Authority, certify, root_authority


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


async def settle(bench: Bench, stamping: Stamping, *, most: int = 20) -> None:
    """Advance, moving the clock to what is due next, until nothing is."""
    for _ in range(most):
        step = await stamping.advance(bench.now)
        if step.next_due is None:
            return
        bench.now = max(bench.now, step.next_due)
    raise AssertionError("it never settles")


async def test_an_attestation_gets_its_token_and_its_proof_and_both_verify(bench: Bench) -> None:
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    first = await stamping.advance(bench.now)
    assert [job.kind for job in first.done] == [StampKind.TSA]
    assert first.next_due == NOW + PACE.poll_first
    status = await stamping.status(MESSAGE)
    (waiting,) = status.open
    assert waiting.state is JobState.PENDING and not status.suffices(1)
    await settle(bench, stamping)
    status = await stamping.status(MESSAGE)
    assert status.suffices(1) and not status.open
    policy = TimePolicy((EmbeddedTimeStampService(bench.world).trusted,), network=REGTEST)
    stamps = stamped_at(status.tokens, MESSAGE, policy, now=bench.now)
    anchored, height = anchored_at(status.proofs, MESSAGE, policy, [bench.world.chain()])
    check_order(NOW, Proven(stamps[-1].time, anchored, height, stamps), policy)


async def test_a_calendar_does_not_see_what_is_stamped(bench: Bench) -> None:
    calendars = [bench.calendar("one"), bench.calendar("two")]
    bench.calendars = calendars
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    await stamping.advance(bench.now)
    seen = [*calendars[0].submitted, *calendars[1].submitted]
    assert len(set(seen)) == 2 and hashlib.sha256(MESSAGE).digest() not in seen


async def test_wanting_twice_asks_once(bench: Bench) -> None:
    calendar = bench.calendar()
    bench.calendars = [calendar]
    stamping = bench.stamping()
    await stamping.want([MESSAGE, MESSAGE], bench.now)
    await stamping.advance(bench.now)
    await stamping.want([MESSAGE], bench.now)
    await stamping.advance(bench.now)
    assert len(calendar.submitted) == 1


async def test_a_restart_goes_on_where_the_queue_was(bench: Bench) -> None:
    calendar = bench.calendar()
    bench.calendars = [calendar]
    await bench.stamping().want([MESSAGE], bench.now)
    await bench.stamping().advance(bench.now)
    await settle(bench, bench.stamping())
    assert (await bench.stamping().status(MESSAGE)).suffices(1)
    assert len(calendar.submitted) == 1


async def test_a_service_that_is_configured_later_is_asked_too(bench: Bench) -> None:
    await bench.stamping().want([MESSAGE], bench.now)
    bench.calendars = [bench.calendar("old"), bench.calendar("new")]
    stamping = bench.stamping()
    await settle(bench, stamping)
    assert len((await stamping.status(MESSAGE)).proofs) == 2  # the job of the calendar that is gone waits untouched


async def test_what_was_never_wanted_has_no_status_and_what_is_forgotten_no_more(bench: Bench) -> None:
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    stamping.queue.forget(MESSAGE)
    with pytest.raises(NotFound) as refusal:
        await stamping.status(MESSAGE)
    assert refusal.value.reason == "silexium.not-queued"
    assert (await stamping.advance(bench.now)).next_due is None


async def test_an_oversized_attestation_is_not_queued(bench: Bench) -> None:
    stamping = bench.stamping()
    with pytest.raises(ProofRejected) as refusal:
        await stamping.want([MESSAGE, bytes(limits.ATTESTATION_BYTES + 1)], bench.now)
    assert refusal.value.reason == "silexium.attestation"
    with pytest.raises(NotFound):
        await stamping.status(MESSAGE)  # all or nothing


async def test_more_stamps_than_services_are_a_fault_of_configuration(bench: Bench) -> None:
    with pytest.raises(UsageFault) as refusal:
        await bench.stamping().obtain(MESSAGE, tokens=2, clock=lambda: bench.now)
    assert refusal.value.reason == "config.stamps"


async def test_k_of_n_authorities_are_enough_and_one_that_lies_is_left_out(bench: Bench, tmp_path: Path) -> None:
    second = embedded_world(tmp_path / "second", clock=lambda: bench.now)
    tsas = (
        TrustedTsa("first", bench.world.root, policy=EMBEDDED_POLICY),
        TrustedTsa("second", second.root, policy=EMBEDDED_POLICY),
        TrustedTsa("third", root_authority("third").der),
    )

    bench.authorities = [
        FakeTsa(tsas[0], EmbeddedTimeStampService(bench.world).ask),
        FakeTsa(tsas[1], EmbeddedTimeStampService(second).ask),
        FakeTsa(tsas[2], EmbeddedTimeStampService(second).ask),  # another's answer as its own
    ]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    step = await stamping.advance(bench.now)
    assert [refusal.error.reason for refusal in step.refused] == ["silexium.tsa-untrusted"]
    status = await stamping.status(MESSAGE)
    assert len(status.tokens) == 2
    bench.now += PACE.poll_first
    await stamping.advance(bench.now)
    status = await stamping.status(MESSAGE)
    assert status.suffices(2) and not status.suffices(3)
    policy = TimePolicy(tsas, tsa_threshold=2, network=REGTEST)
    assert {stamp.tsa for stamp in stamped_at(status.tokens, MESSAGE, policy, now=bench.now)} == {"first", "second"}


async def test_obtaining_sleeps_until_something_is_due(bench: Bench, autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    clock: Callable[[], int] = lambda: bench.now + int(trio.current_time() - start)  # noqa: E731
    status = await bench.stamping().obtain(MESSAGE, tokens=1, clock=clock)
    assert status.suffices(1)
    assert trio.current_time() - start >= PACE.poll_first


async def test_a_clock_that_was_wrong_puts_nothing_off_for_years(bench: Bench) -> None:
    async def broken(_: bytes) -> bytes:
        raise TransportFault("http.unreachable", "down")

    bench.authorities = [FakeTsa(EmbeddedTimeStampService(bench.world).trusted, broken)]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], NOW + 10**8)
    await stamping.advance(NOW + 10**8)
    bench.authorities = None
    assert {job.kind for job in (await bench.stamping().advance(NOW)).done} == {StampKind.TSA, StampKind.OTS}


# --- hostile authorities ------------------------------------------------------------------------------------------


class Mint:
    """An authority of the test's own making, which can be wrong in one way; the request's nonce is put in."""

    def __init__(self) -> None:
        self.root = root_authority("hostile root")
        self.authority = Authority(certify("hostile", self.root))
        self.trusted = TrustedTsa("hostile", self.root.der, policy=POLICY)


def nonce_of(request: bytes) -> int:
    return int(tsp.TimeStampReq.load(request)["nonce"].native)


def embedded_answer(bench: Bench, change: Callable[[tsp.TimeStampReq], None], now: int | None = None) -> FakeTsa:
    """The embedded authority's honest answer to a changed request."""

    async def answer(request: bytes) -> bytes:
        asked = tsp.TimeStampReq.load(request)
        change(asked)
        return bench.world.answer(asked.dump(force=True), now=now)

    return FakeTsa(EmbeddedTimeStampService(bench.world).trusted, answer)


def other_digest(asked: tsp.TimeStampReq) -> None:
    asked["message_imprint"]["hashed_message"] = hashlib.sha512(b"other bytes").digest()


def sha256_digest(asked: tsp.TimeStampReq) -> None:
    asked["message_imprint"] = {
        "hash_algorithm": {"algorithm": "sha256"},
        "hashed_message": hashlib.sha256(MESSAGE).digest(),
    }


def other_nonce(asked: tsp.TimeStampReq) -> None:
    asked["nonce"] = asked["nonce"].native + 1


def no_nonce(asked: tsp.TimeStampReq) -> None:
    del asked["nonce"]


def no_certificate(asked: tsp.TimeStampReq) -> None:
    asked["cert_req"] = False


def nothing(_: tsp.TimeStampReq) -> None:
    return


async def refused(bench: Bench, authority: FakeTsa, reason: str) -> None:
    """The token of ``authority`` is refused for exactly ``reason``, none is kept, and the calendar's work goes on."""
    bench.authorities = [authority]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    step = await stamping.advance(bench.now)
    assert [refusal.error.reason for refusal in step.refused] == [reason]
    bench.now += PACE.poll_most
    step = await stamping.advance(bench.now)
    assert [job.kind for job in step.done] == [StampKind.OTS]
    status = await stamping.status(MESSAGE)
    (job,) = status.open
    assert (job.state, job.failures, job.reason, job.proof) == (JobState.WANTED, 2, reason, None)
    assert status.tokens == () and len(status.proofs) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_digest, "silexium.tsa-imprint"),
        (sha256_digest, "silexium.tsa-imprint"),
        (other_nonce, "silexium.tsa-nonce"),
        (no_nonce, "silexium.tsa-nonce"),
        (no_certificate, "silexium.tsa-untrusted"),
    ],
)
async def test_an_authority_that_answers_another_question_is_refused(
    bench: Bench, change: Callable[[tsp.TimeStampReq], None], reason: str
) -> None:
    await refused(bench, embedded_answer(bench, change), reason)


async def test_an_authority_that_leaves_out_its_pinned_certificate_is_refused(bench: Bench) -> None:
    authority = embedded_answer(bench, no_certificate)
    leaf = (bench.world.folder / "tsa.pem").read_bytes()
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pinned = x509.load_pem_x509_certificate(leaf).public_bytes(Encoding.DER)
    authority.trusted = TrustedTsa("embedded", bench.world.root, leaf=pinned)
    await refused(bench, authority, "silexium.tsa-policy")


async def test_an_authority_under_another_policy_is_refused(bench: Bench) -> None:
    authority = embedded_answer(bench, lambda asked: asked.__delitem__("req_policy"))
    authority.trusted = TrustedTsa("embedded", bench.world.root, policy="1.2.3.4")
    await refused(bench, authority, "silexium.tsa-untrusted")


async def test_another_authoritys_answer_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = embedded_world(tmp_path / "other", clock=lambda: NOW)
    service = EmbeddedTimeStampService(other)
    await refused(bench, FakeTsa(EmbeddedTimeStampService(bench.world).trusted, service.ask), "silexium.tsa-untrusted")


async def test_an_answer_with_another_certificate_is_refused(bench: Bench) -> None:
    mint = Mint()
    other = certify("another of the same root", mint.root)

    async def answer(request: bytes) -> bytes:
        return mint.authority.stamp(MESSAGE, NOW, named=other.der)

    await refused(bench, FakeTsa(mint.trusted, answer), "silexium.tsa-certificate")


@pytest.mark.parametrize("status", ["granted_with_mods", "rejection", "waiting"])
async def test_an_answer_that_is_not_granted_is_refused(bench: Bench, status: str) -> None:
    mint = Mint()

    async def answer(request: bytes) -> bytes:
        return mint.authority.stamp(MESSAGE, NOW, status=status)

    await refused(bench, FakeTsa(mint.trusted, answer), "silexium.tsa")


async def test_a_rejection_without_a_token_is_refused(bench: Bench) -> None:
    async def answer(request: bytes) -> bytes:
        return bench.world.answer(b"not a request")

    authority = FakeTsa(EmbeddedTimeStampService(bench.world).trusted, answer)
    await refused(bench, authority, "silexium.tsa")


@pytest.mark.parametrize("body", [b"", b"<html>", bytes(limits.TSA_RESPONSE_BYTES + 1)])
async def test_an_answer_that_is_no_time_stamp_is_refused(bench: Bench, body: bytes) -> None:
    async def answer(request: bytes) -> bytes:
        return body

    await refused(bench, FakeTsa(EmbeddedTimeStampService(bench.world).trusted, answer), "silexium.tsa")


async def test_an_authority_that_backdates_is_refused(bench: Bench) -> None:
    await refused(bench, embedded_answer(bench, nothing, now=NOW - 3600), "silexium.time-order")


async def test_an_authority_that_is_vague_beyond_use_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_tsa, "_ACCURACY_SECONDS", 10**6)
    await refused(bench, embedded_answer(bench, nothing), "silexium.time-order")


async def test_an_authority_that_postdates_is_refused(bench: Bench) -> None:
    await refused(bench, embedded_answer(bench, nothing, now=NOW + 3600), "silexium.future")


async def test_an_authority_that_hangs_holds_up_nobody_else(bench: Bench) -> None:
    async def hang(_: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    good, hanging = EmbeddedTimeStampService(bench.world), FakeTsa(Mint().trusted, hang)
    bench.authorities = [hanging, good]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stamping.advance, bench.now)
        with trio.fail_after(30):
            while not (await stamping.status(MESSAGE)).tokens:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len((await bench.stamping().status(MESSAGE)).tokens) == 1


async def test_a_service_that_is_down_is_left_alone_with_all_its_jobs(bench: Bench) -> None:
    async def down(_: bytes) -> bytes:
        raise TransportFault("http.unreachable", "down")

    authority = FakeTsa(Mint().trusted, down)
    bench.authorities = [authority]
    stamping = bench.stamping()
    await stamping.want([b"message %d" % number for number in range(20)], bench.now)
    step = await stamping.advance(bench.now)
    assert len(authority.asked) == 1
    assert [refusal.error.reason for refusal in step.refused] == ["http.unreachable"]
    assert step.next_due is not None and step.next_due >= NOW + PACE.retry_first
    await bench.stamping().advance(step.next_due - 1)  # a restart does not forget to wait
    assert len(authority.asked) == 1
    await bench.stamping().advance(step.next_due)
    assert len(authority.asked) == 2


async def test_a_service_with_much_to_do_does_not_fill_the_others_places(bench: Bench) -> None:
    async def lie(_: bytes) -> bytes:
        return b"no time stamp"

    lying = FakeTsa(Mint().trusted, lie)
    bench.authorities = [lying]
    bench.calendars = []
    stamping = bench.stamping()
    await stamping.want([b"message %d" % number for number in range(limits.STAMP_JOBS_AT_ONCE + 1)], bench.now)
    bench.authorities = [lying, EmbeddedTimeStampService(bench.world)]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now + 1)
    stamping.queue.want_of_new_services(bench.now + 1)
    bench.now += 1
    jobs = stamping.queue.due(bench.now, 1000)
    assert {job.service for job in jobs} == {"hostile", "embedded"}
    assert len(jobs) == 2 * limits.STAMP_JOBS_AT_ONCE


@pytest.mark.parametrize(
    ("uri", "taken"),
    [
        ("https://pool.example.org", True),
        ("https://pool.example.org/", True),
        ("https://alice.btc.example.net", True),
        ("http://alice.btc.example.net", False),
        ("https://example.net", False),
        ("https://.example.net", False),
        ("https://a..example.net", False),
        ("https://-a.example.net", False),
        ("https://:.example.net", False),
        ("https://1:2.example.net", False),
        ("https://evil.org/x.example.net", False),
        ("https://a.example.net/path", False),
        ("https://a.example.net:443", False),
        ("https://evilexample.net", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
async def test_promises_are_taken_from_listed_addresses_only(uri: str, taken: bool) -> None:
    async with HttpClient() as client:
        calendar = HttpCalendar("pool", "https://pool.example.org", client, ("https://*.example.net",))
        assert calendar.redeems(uri) is taken


async def test_a_fault_that_nobody_foresaw_is_the_services_and_stops_no_queue(bench: Bench) -> None:
    async def unusable(_: bytes) -> bytes:
        raise UsageFault("http.url", "a promise under an address that cannot be asked")

    job = await calendar_refused(bench, "http.url", rest=unusable)
    assert job.state is JobState.PENDING


def test_the_wait_between_attempts_grows_to_its_bound() -> None:
    job, now, waits = StampJob(b"m" * 32, StampKind.TSA, "one", NOW), NOW, []
    for _ in range(10):
        job = job.refused("http.status", "busy", now, PACE)
        waits.append(job.due - now)
        now = job.due
    assert waits[:4] == sorted(waits[:4]) and waits[0] >= PACE.retry_first
    assert all(PACE.retry_most <= wait <= PACE.retry_most * 5 // 4 for wait in waits[4:])


# --- hostile calendars --------------------------------------------------------------------------------------------


async def calendar_refused(bench: Bench, reason: str, *, advances: int = 2, **behaviour: object) -> StampJob:
    """The hostile calendar is refused for ``reason``; an honest one beside it completes; returns the bad one's job."""
    bench.calendars = [bench.calendar("hostile", **behaviour), bench.calendar("honest")]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    reasons: list[str] = []
    for _ in range(advances):
        step = await stamping.advance(bench.now)
        reasons += [refusal.error.reason for refusal in step.refused]
        bench.now += PACE.poll_first
    assert reasons and set(reasons) == {reason}
    status = await stamping.status(MESSAGE)
    assert len(status.proofs) == 1
    (job,) = status.open
    assert (job.service, job.reason) == ("hostile", reason)
    return job


async def test_a_calendar_that_promises_for_another_is_refused(bench: Bench) -> None:
    async def promise(digest: bytes) -> bytes:
        return write_timestamp(digest, [], PendingAttestation(digest, "http://127.0.0.1/admin"))

    job = await calendar_refused(bench, "silexium.calendar", promise=promise)
    assert job.state is JobState.WANTED


async def test_a_calendar_that_answers_with_a_file_is_refused(bench: Bench) -> None:
    async def promise(digest: bytes) -> bytes:
        return write_ots(digest, [], PendingAttestation(digest, bench.world.uri))

    await calendar_refused(bench, "silexium.ots", promise=promise)


@pytest.mark.parametrize("body", [b"", b"\xff" * 10_000, b"\xf0\x01a" * 600, bytes(limits.OTS_BYTES + 1)])
async def test_a_malformed_or_endless_promise_is_refused(bench: Bench, body: bytes) -> None:
    async def promise(_: bytes) -> bytes:
        return body

    await calendar_refused(bench, "silexium.ots", promise=promise)


async def test_a_calendar_that_makes_up_a_block_is_refused(bench: Bench) -> None:
    bench.world.proof(b"so that there is a block 1")

    async def promise(digest: bytes) -> bytes:
        return write_timestamp(digest, [], BitcoinAttestation(digest, 1))

    job = await calendar_refused(bench, "silexium.header-root", promise=promise)
    assert job.state is JobState.WANTED and job.proof is None


async def test_a_forged_upgrade_is_refused_and_asked_for_again(bench: Bench) -> None:
    async def rest(commitment: bytes) -> bytes:
        root = hashlib.sha256(commitment).digest()
        return write_timestamp(commitment, [("sha256", b"")], BitcoinAttestation(root, 0))

    job = await calendar_refused(bench, "silexium.header-root", rest=rest)
    assert job.state is JobState.PENDING and job.promise is not None and job.proof is None


async def test_the_upgrade_of_another_digest_is_refused(bench: Bench) -> None:
    async def rest(commitment: bytes) -> bytes:
        proof = parse_ots(bench.world.proof(b"other bytes"), hashlib.sha256(b"other bytes").digest())
        last = proof.paths[0].steps[-1:]
        end = BitcoinAttestation(hashlib.sha256(commitment).digest(), proof.bitcoin[0].height)
        return write_timestamp(commitment, last, end)

    await calendar_refused(bench, "silexium.header-root", rest=rest)


@pytest.mark.parametrize("body", [b"", b"\x08" * 513, bytes(limits.OTS_BYTES + 1)])
async def test_a_malformed_or_endless_upgrade_is_refused(bench: Bench, body: bytes) -> None:
    async def rest(_: bytes) -> bytes:
        return body

    await calendar_refused(bench, "silexium.ots", rest=rest)


async def test_an_upgrade_that_only_promises_again_is_refused(bench: Bench) -> None:
    async def rest(commitment: bytes) -> bytes:
        return write_timestamp(commitment, [], PendingAttestation(commitment, bench.world.uri))

    await calendar_refused(bench, "silexium.ots-pending", rest=rest)


async def test_a_calendar_that_withholds_is_asked_ever_less_and_then_for_a_new_promise(bench: Bench) -> None:
    async def rest(_: bytes) -> None:
        return None

    withholding, honest = bench.calendar("withholding", rest=rest), bench.calendar("honest")
    bench.calendars = [withholding, honest]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    gaps = []
    while len(withholding.submitted) < 2:
        step = await stamping.advance(bench.now)
        assert not step.refused
        assert step.next_due is not None
        gaps.append(step.next_due - bench.now)
        bench.now = step.next_due
    assert max(gaps) == PACE.poll_most
    assert withholding.questions <= PACE.promise_lasts // PACE.poll_most + 5
    assert len((await stamping.status(MESSAGE)).proofs) == 1  # the honest one's


async def test_a_block_that_is_not_at_hand_yet_makes_the_proof_wait_not_fail(bench: Bench) -> None:
    behind = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
    bench.headers = lambda: behind
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    await stamping.advance(bench.now)
    bench.now += PACE.poll_first
    step = await stamping.advance(bench.now)
    assert not step.done and not step.refused
    status = await stamping.status(MESSAGE)
    assert status.proofs == () and status.open[0].state is JobState.ANCHORED
    bench.headers = bench.world.chain
    stamping = bench.stamping()
    await stamping.headers_changed(bench.now)
    assert [job.kind for job in (await stamping.advance(bench.now)).done] == [StampKind.OTS]


async def test_a_block_far_in_the_future_does_not_hold_the_job_forever(bench: Bench) -> None:
    async def rest(commitment: bytes) -> bytes:
        root = hashlib.sha256(commitment).digest()
        return write_timestamp(commitment, [("sha256", b"")], BitcoinAttestation(root, limits.BITCOIN_HEIGHT))

    lying = bench.calendar("lying", rest=rest)
    bench.calendars = [lying]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    for _ in range(4):
        await stamping.advance(bench.now)
        bench.now += PACE.poll_most
    lying.rest = None  # it comes to its senses
    step = await stamping.advance(bench.now)
    assert [job.kind for job in step.done] == [StampKind.OTS]


async def test_a_reorganised_chain_takes_a_proof_back_until_the_calendar_has_a_new_one(bench: Bench) -> None:
    """Anchored in a block that another branch then replaces: not done, and done once the calendar follows."""
    ours = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
    bench.headers = lambda: ours
    calendar = bench.calendar()
    bench.calendars = [calendar]
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    await stamping.advance(bench.now)
    bench.now += PACE.poll_first
    await stamping.advance(bench.now)  # anchored in the world's block 1, which ours does not have
    for number in range(2):
        ours.extend(mine_header(ours, bytes([number]) * 32, bench.now + number), now=bench.now)
    await stamping.headers_changed(bench.now)
    step = await stamping.advance(bench.now)
    assert [refusal.error.reason for refusal in step.refused] == ["silexium.header-root"]
    (job,) = (await stamping.status(MESSAGE)).open
    assert job.state is JobState.PENDING and job.proof is None

    async def follow(commitment: bytes) -> bytes:
        root = hashlib.sha256(commitment).digest()
        ours.extend(mine_header(ours, root, bench.now + 10), now=bench.now)
        return write_timestamp(commitment, [("sha256", b"")], BitcoinAttestation(root, ours.tip))

    calendar.rest = follow
    bench.now += PACE.poll_most
    assert [done.kind for done in (await stamping.advance(bench.now)).done] == [StampKind.OTS]


async def test_two_servers_that_work_on_one_queue_at_once_end_up_with_one_stamp_each(bench: Bench) -> None:
    first, second = bench.stamping(), bench.stamping()
    await first.want([b"message %d" % number for number in range(8)], bench.now)
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.advance, bench.now)
            nursery.start_soon(second.advance, bench.now)
        bench.now += PACE.poll_first
    for number in range(8):
        status = await first.status(b"message %d" % number)
        assert (len(status.tokens), len(status.proofs), status.open) == (1, 1, ())


async def test_two_processes_over_one_queue_do_not_undo_each_other(bench: Bench) -> None:
    stamping = bench.stamping()
    await stamping.want([MESSAGE], bench.now)
    (before, *_) = stamping.queue.due(bench.now, 1000)
    first = before.refused("http.status", "busy", bench.now, PACE)
    assert stamping.queue.replace(before, first)
    assert not stamping.queue.replace(before, before.refused("http.timeout", "slow", bench.now, PACE))
    (job,) = (job for job in (await stamping.status(MESSAGE)).jobs if job.kind is before.kind)
    assert job == first


def test_what_is_done_never_changes_again() -> None:
    done = StampJob(b"m" * 32, StampKind.TSA, "one", NOW).done(b"token")
    with pytest.raises(AssertionError):
        done.refused("http.status", "busy", NOW, PACE)
    with pytest.raises(AssertionError):
        done.promised(b"promise", NOW, PACE)
