"""The policy that a server prints, as clients use it: with it, and with nothing less, its releases verify."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
import tomli

from libreseed.ids import ReleaseId
from libreseed.silexium.trust_policy import parse_silexium_policy
from services.silexium import cli
from services.silexium.policy import policy_toml
from services.user import cli as user
from tests.silexium_server_support import Shop, run, workshop

pytestmark = pytest.mark.integration


def printed(shop: Shop, *more: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["policy", "--config", str(shop.server), *more]) == 0
    return out.getvalue()


def verify(*arguments: object) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = user.main(["verify", *map(str, arguments), "--json"])
    return {**json.loads(out.getvalue()), "code": code}


@pytest.mark.parametrize("prefix", ["", "silexium", "a.b"])
def test_the_printed_table_is_the_servers(tmp_path: Path, prefix: str) -> None:
    shop = Shop.make(tmp_path / "shop")
    run(
        "key",
        "trust",
        "ed25519:" + "A" * 43 + "=",
        "--role",
        "tests",
        "--not-after",
        "2030-01-01T00:00:00Z",
        "--package",
        "hello",
        "--package",
        "other",
        "--config",
        shop.server,
    )
    table: Any = tomli.loads(printed(shop, *(("--prefix", prefix) if prefix else ())))
    for part in prefix.split(".") if prefix else ():
        table = table[part]
    assert table == run("policy", "--config", shop.server)["policy"]
    policy = parse_silexium_policy(table)
    assert len(policy.keys) == 4
    assert policy.logs[0].identity == shop.site().log_identity()


async def test_with_the_printed_policy_a_release_verifies_offline(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    shop.ingest(shop.attested("hello@1.0.0"))
    async with workshop(shop) as here:
        await here.publish(int(time.time()))
        bundle = here.api.answers.bundle(here.api.answers.served(), ReleaseId.parse("hello@1.0.0"))
    (tmp_path / "hello.json").write_bytes(bundle)
    (tmp_path / "policy.toml").write_text(printed(shop, "--prefix", "silexium"))
    tgz = shop.root / "hello@1.0.0" / "hello@1.0.0.tgz"
    line = ("--bundle", tmp_path / "hello.json", "--policy", tmp_path / "policy.toml", "--tgz", tgz)
    answer = verify(*line)
    assert (answer["code"], answer["ok"]) == (0, True), answer
    stranger = Shop.make(tmp_path / "stranger")
    (tmp_path / "policy.toml").write_text(printed(stranger, "--prefix", "silexium"))
    assert verify(*line)["reason"] == "silexium.key-unknown"


@pytest.mark.parametrize(
    "table",
    [
        {"a": 1, "b": {"c": "x", "d": [1, 2], "e": {"f": 'y"\\\n\t\u00e9\x7f'}}},
        {"list": [{"a": 1, "inner": {"b": [{"c": 2}, {"c": 3}]}}, {"a": 4}], "plain": []},
        {"empty": {}, "flag": True},
        {"text": "'''\u2028-----BEGIN"},
    ],
)
def test_tables_survive_being_written_as_toml(table: dict[str, object]) -> None:
    assert tomli.loads(policy_toml(table)) == table
    assert tomli.loads(policy_toml(table, "x.y"))["x"]["y"] == table
