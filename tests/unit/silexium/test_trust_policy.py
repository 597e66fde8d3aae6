"""The policy as a file states it: everything it can say, and that nothing in it is silently dropped."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tomli

from libreseed.errors import UsageFault
from libreseed.ids import PackageName
from libreseed.silexium.bitcoin_headers import MAINNET, REGTEST
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.keyring import Role
from libreseed.silexium.trust_policy import parse_silexium_policy
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_support import KEYS, LOG, NOW, RELEASE, WITNESSES, Draft, authorities, roots
from tests.tsa_support import POLICY

MINIMAL = f"""
[time]
network = "regtest"

[[time.tsas]]
name = "tsa0"
root = '''{roots()[0].pem.decode()}'''

[[logs]]
origin = "{LOG.name}"
key = "{LOG.key}"

[[keys]]
key = "{KEYS[Role.AUTHOR].public}"
roles = ["author"]

[[keys]]
key = "{KEYS[Role.TESTS].public}"
roles = ["tests"]

[[keys]]
key = "{KEYS[Role.SERVER].public}"
roles = ["server"]
"""

FULL = f"""
channels = ["stable", "beta"]

[time]
network = "mainnet"
tsa-threshold = 2
max-lag-seconds = 86400
checkpoints = [{{ height = 900000, hash = "{"00" * 31}ff" }}]

[[time.tsas]]
name = "one"
root = '''{roots()[0].pem.decode()}'''
leaf = '''{authorities()[0].leaf.pem.decode()}'''
policy = "{POLICY}"
not-before = "2024-01-01T00:00:00Z"
distrust-after = "2030-01-01T00:00:00Z"

[[time.tsas]]
name = "two"
root = '''{roots()[1].pem.decode()}'''

[[logs]]
origin = "{LOG.name}"
key = "{LOG.key}"
max-head-age-seconds = 604800

[logs.witnesses]
threshold = 1
members = [
  {{ threshold = 1, members = [{{ name = "{WITNESSES[0].name}", key = "{WITNESSES[0].key}" }}] }},
  {{ name = "{WITNESSES[1].name}", key = "{WITNESSES[1].key}" }},
]

[[keys]]
key = "{KEYS[Role.AUTHOR].public}"
roles = ["author", "tests"]
packages = ["hello"]
not-before = "2026-01-01T00:00:00Z"
not-after = "2027-01-01T00:00:00Z"
revoked-at = "2026-12-01T00:00:00Z"
"""


def parse(text: str) -> dict[str, Any]:
    return tomli.loads(text)


def test_a_minimal_policy_verifies_a_release() -> None:
    policy = parse_silexium_policy(parse(MINIMAL))
    assert policy.time.network is REGTEST
    verify_bundle(ReleaseVerification(policy, RELEASE, now=NOW), Draft().bundle())


def test_everything_that_a_policy_can_say() -> None:
    policy = parse_silexium_policy(parse(FULL))
    (key,) = policy.keys
    assert (key.roles, key.packages) == ({Role.AUTHOR, Role.TESTS}, {PackageName("hello")})
    assert (key.not_before, key.not_after, key.revoked_at) == (1767225600, 1798761600, 1796083200)
    (log,) = policy.logs
    assert (log.identity, log.max_head_age) == (LOG, 604800)
    assert list(log.witnesses.witnesses()) == list(WITNESSES[:2])
    time = policy.time
    assert (time.network, time.tsa_threshold, time.max_lag) == (MAINNET, 2, 86400)
    assert time.pins == ((900000, b"\xff" + bytes(31)),)
    assert (time.tsas[0].policy, time.tsas[0].leaf) == (POLICY, authorities()[0].leaf.der)
    assert (time.tsas[0].not_before, time.tsas[0].distrust_after) == (1704067200, 1893456000)
    assert policy.channels == {"stable", "beta"}


def test_mainnet_is_the_default() -> None:
    assert parse_silexium_policy(parse(MINIMAL.replace('network = "regtest"', ""))).time.network is MAINNET


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("keys"),
        lambda t: t.pop("logs"),
        lambda t: t.pop("time"),
        lambda t: t.update(extra=1),
        lambda t: t.update(logs=[]),
        lambda t: t.update(logs=t["logs"] * 2),
        lambda t: t.update(keys=t["keys"] * 2),
        lambda t: t.update(keys={}),
        lambda t: t.update(keys=[5]),
        lambda t: t.update(logs=["log.example"]),
        lambda t: t.update(time=5),
        lambda t: t.update(channels="stable"),
        lambda t: t.update(channels=[1]),
        lambda t: t["keys"][0].update(role="author"),
        lambda t: t["keys"][0].update(roles=[]),
        lambda t: t["keys"][0].update(roles=["admin"]),
        lambda t: t["keys"][0].update(roles="author"),
        lambda t: t["keys"][0].update(key="ed25519:x"),
        lambda t: t["keys"][0].update({"packages": ["../x"]}),
        lambda t: t["keys"][0].update({"packages": [5]}),
        lambda t: t["keys"][0].update({"not-before": "yesterday"}),
        lambda t: t["keys"][0].update({"not-after": 5}),
        lambda t: t["keys"][0].update({"not-before": "2028-01-01T00:00:00Z", "not-after": "2027-01-01T00:00:00Z"}),
        lambda t: t["logs"][0].update(origin="a b"),
        lambda t: t["logs"][0].update(origin=""),
        lambda t: t["logs"][0].update(witness=1),
        lambda t: t["logs"][0].update({"max-head-age-seconds": -1}),
        lambda t: t["logs"][0].update({"max-head-age-seconds": "1"}),
        lambda t: t["logs"][0].update(witnesses={"threshold": 1, "members": []}),
        lambda t: t["logs"][0].update(witnesses={"threshold": 2, "members": [_witness(0)]}),
        lambda t: t["logs"][0].update(witnesses={"threshold": 2, "members": [_witness(0), _witness(0)]}),
        lambda t: t["logs"][0].update(witnesses={"threshold": 1, "members": [{"name": "me", "key": str(LOG.key)}]}),
        lambda t: t["logs"][0].update(witnesses={"members": [_witness(0)]}),
        lambda t: t["logs"][0].update(witnesses=_nested(9)),
        lambda t: t["time"].update(network="testnet"),
        lambda t: t["time"].update(network=["regtest"]),
        lambda t: t["time"].update({"tsa-threshold": 0}),
        lambda t: t["time"].update({"tsa-threshold": 2}),
        lambda t: t["time"].update({"tsa-threshold": True}),
        lambda t: t["time"].update({"max-lag-seconds": -1}),
        lambda t: t["time"].update(tsas=[]),
        lambda t: t["time"].update(tsas=t["time"]["tsas"] * 2),
        lambda t: t["time"].update(checkpoints=[{"height": 1, "hash": "0x00"}]),
        lambda t: t["time"].update(checkpoints=[{"hash": "00" * 32}]),
        lambda t: t["time"]["tsas"][0].update(root="no certificate"),
        lambda t: t["time"]["tsas"][0].update(root=roots()[0].der.hex()),
        lambda t: t["time"]["tsas"][0].update(url="https://tsa.example"),
        lambda t: t["time"]["tsas"][0].update(policy="x"),
    ],
)
def test_a_faulty_policy_is_refused(change: Any) -> None:
    table = copy.deepcopy(parse(MINIMAL))
    change(table)
    with pytest.raises(UsageFault) as error:
        parse_silexium_policy(table)
    assert (error.value.reason, error.value.exit_code) == ("config.policy", 3)


def _witness(number: int) -> dict[str, str]:
    return {"name": WITNESSES[number].name, "key": str(WITNESSES[number].key)}


def _nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"threshold": 1, "members": [_witness(0)]}
    for _ in range(depth):
        inner = {"threshold": 1, "members": [inner]}
    return inner


_ODD: list[Any] = [None, True, -1, 2**70, 1.5, "", "x", "\x00", b"bytes", [], [[]], {}, {"x": {}}, [None] * 5000]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, item in items for place in [(*path, name), *_places(item, (*path, name))]]


@pytest.mark.parametrize("text", [MINIMAL, FULL], ids=["minimal", "full"])
def test_nothing_but_a_policy_fault_escapes(text: str) -> None:
    for place in _places(parse(text)):
        for odd in _ODD:
            table = parse(text)
            inner: Any = table
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = odd
            try:
                parse_silexium_policy(table)
            except UsageFault as error:
                assert error.reason == "config.policy"
