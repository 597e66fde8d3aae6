"""What this machine noted itself, used against it: receipts of weaker proofs, floors that were read too early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed.adapters.resolving.store import Store
from libreseed.ids import PackageName, Sha256Digest
from libreseed.resolve.floors import Floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.receipt import Receipt, parse_receipt
from libreseed.silexium.bitcoin_headers import MAINNET
from libreseed.silexium.keyring import Keyring
from libreseed.silexium.trust_policy import SilexiumPolicy, TrustedLog
from services.resolver.proofs import ProofOptions
from tests.proof_support import AUTHOR_IS_PACKAGER, Desk, draft
from tests.resolver_support import KEY, Sample, make_sample, rejects
from tests.silexium_support import LOG, NOW, STAMPED, keyring, policy, quorum


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


@pytest.fixture
def desk(tmp_path: Path, sample: Sample) -> Desk:
    return Desk(sample, tmp_path)


def keys(**changes: object) -> Callable[[SilexiumPolicy], SilexiumPolicy]:
    return lambda policy: replace(policy, keys=Keyring(replace(key, **changes) for key in policy.keys))


TIGHTENED: dict[str, Callable[[SilexiumPolicy], SilexiumPolicy]] = {
    "keys that were revoked since before they signed": keys(revoked_at=1),
    "keys that were not in force": keys(not_before=NOW),
    "keys for other packages": keys(packages=frozenset({PackageName("other")})),
    "witnesses that did not sign": lambda policy: replace(policy, logs=(TrustedLog(LOG, quorum(2)),)),
    "a chain that proves something": lambda policy: replace(policy, time=replace(policy.time, network=MAINNET)),
    "another channel": lambda policy: replace(policy, channels=frozenset({"nightly"})),
    "authorities that were distrusted before": lambda policy: replace(
        policy,
        time=replace(policy.time, tsas=tuple(replace(tsa, distrust_after=STAMPED - 9999) for tsa in policy.time.tsas)),
    ),
}


@pytest.mark.parametrize("tightened", TIGHTENED.values(), ids=TIGHTENED)
async def test_a_receipt_of_weaker_proofs_is_not_enough_for_a_stricter_policy(
    desk: Desk, tightened: Callable[[SilexiumPolicy], SilexiumPolicy]
) -> None:
    await desk.resolve(draft(desk.sample).bundle())
    assert (await desk.resolve()).already
    desk.policy = tightened(desk.policy)
    with rejects("silexium.unavailable", step=1):
        await desk.resolve()


async def test_a_receipt_with_the_facts_cut_out_is_not_enough(desk: Desk) -> None:
    outcome = await desk.resolve(draft(desk.sample).bundle())
    store = Store(desk.store)
    receipt = store.receipt(outcome.minimal.release, Path(outcome.path))
    assert receipt is not None
    for name in receipt.proofs:
        if name in ("log", "channel", "network", "witnesses", "signers"):
            fewer = {key: value for key, value in receipt.proofs.items() if key != name}
            store.keep_receipt(parse_receipt(replace(receipt, proofs=fewer).data))
            with rejects("silexium.unavailable", step=1):
                await desk.resolve()
    store.keep_receipt(Receipt(receipt.minimal, receipt.path, 1, "flag", "not checked", receipt.proofs))
    with rejects("silexium.unavailable", step=1):
        await desk.resolve()


async def test_an_author_who_was_revoked_is_no_longer_why_a_release_is_believed(desk: Desk) -> None:
    """Without proofs and without a pin, the word of a proven author counts only while the proof does."""
    desk.policy = policy(keys=keyring(author={"public": KEY.public}))
    await desk.resolve(draft(desk.sample, keys=AUTHOR_IS_PACKAGER).bundle(), pinned=False)
    waived = {"without_silexium": True}
    request = replace_request(desk, **waived)
    assert (await desk.resolve(pinned=False, request=request)).already
    desk.policy = keys(revoked_at=1)(desk.policy)
    with rejects("trust.unknown-publisher"):
        await desk.resolve(pinned=False, request=request)


def replace_request(desk: Desk, **changes: object) -> object:
    from libreseed.resolve.request import Request

    return Request(desk.sample.minimal.release, offline=True, **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(("ahead_ms", "reason"), [(1, "floor.rollback"), (0, "floor.conflict")])
async def test_a_floor_that_another_process_raised_meanwhile_stops_an_older_record(
    desk: Desk, ahead_ms: int, reason: str
) -> None:
    """Between reading floors and writing one lies the whole download: the floor must not fall then (G7)."""
    minimal = desk.sample.minimal
    higher = Floor(minimal.release, minimal.pubkey, minimal.timestamp + ahead_ms, Sha256Digest(b"\x01" * 32))

    def now() -> int:  # asked after the floors were read
        Store(desk.store).keep_floor(higher)
        return NOW

    bundle = desk.base / "given.silexium.json"
    bundle.write_bytes(draft(desk.sample).bundle().data)
    with rejects(reason) as caught:
        await desk.resolve(policy=Policy(silexium=desk.policy), proofs=ProofOptions(bundle, now=now))
    assert caught[0].exit_code == 22
    assert desk.installed() == []
    assert Store(desk.store).floors(minimal.release, (minimal.pubkey,)) == {minimal.pubkey: higher}
