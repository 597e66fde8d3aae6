"""The whole flow as operators and CI run it: keys, attestations, ingest, a real server, and proofs that hold."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import pytest

from libreseed.ids import ReleaseId
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.install_answer import parse_install_answer
from libreseed.silexium.tree_head import parse_checkpoint
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_server_support import Shop, starting, wait_until

pytestmark = pytest.mark.integration


def post(url: str, value: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def test_a_release_goes_from_ci_into_the_log_and_its_answer_proves_it(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    first, second = shop.attested("hello@1.0.0"), shop.attested("hello@1.1.0", binaries={"linux": b"tool"})
    assert shop.ingest(first)["state"] == "staged"
    with starting(shop) as server:
        wait_until(shop, ["hello@1.0.0"])
        assert shop.ingest(first)["state"] == "logged"
        old = parse_install_answer(post(f"{server.url}/install", {"package": "hello", "os": "linux", "arch": "x86_64"}))
        assert old.release == ReleaseId.parse("hello@1.0.0")
        assert shop.ingest(second)["server_running"] is True
        wait_until(shop, ["hello@1.1.0"])
        asked = {"package": "hello", "os": "linux", "arch": "x86_64", "known_sth": old.bundle.sth}
        deadline = time.monotonic() + 30
        while (new := parse_install_answer(post(f"{server.url}/resolve", asked))).release == old.release:
            assert time.monotonic() < deadline, "the new head is served within a second"
        assert new.release == ReleaseId.parse("hello@1.1.0")
        assert new.binary is not None
        bundle = parse_bundle(get(f"{server.url}/bundle/hello@1.0.0"))
        checkpoint = get(f"{server.url}/checkpoint")
        assert json.loads(get(f"{server.url}/health"))["status"] == "ok"
        assert server.stop() == 0
    policy, now = shop.policy(), int(time.time())
    before = verify_bundle(ReleaseVerification(policy, old.release, now=now), old.bundle)
    after = verify_bundle(
        ReleaseVerification(policy, new.release, now=now), new.bundle, memory=before.memory, proof=new.consistency
    )
    assert after.memory is not None
    assert parse_checkpoint(checkpoint, policy.logs[0].identity).sth.size == after.memory.head.size == 2
    assert verify_bundle(ReleaseVerification(policy, old.release, now=now), bundle).entry == before.entry
    assert "stopped" in server.text()
