"""``search``, ``update`` and ``doctor``: what they make of items, receipts and a machine, without any network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed import bencode
from libreseed.adapters.resolving.store import Store
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.records import build_index, manifest_salt, parse_index
from libreseed.errors import LibreSeedError
from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, TorrentV2Hash, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.offers import offers_of, preferred
from libreseed.resolve.receipt import Receipt
from services.resolver.cli import _parser as resolver_parser
from services.user import checkup
from services.user.cli import _parser as user_parser
from services.user.cli import main
from services.user.lookups import read_place
from services.user.update import candidates, resolver_line

KEY, STRANGER = PrivateKey(b"\x07" * 32), PrivateKey(b"\x08" * 32)
NAME = PackageName("hello")


def minimal(version: str, key: PrivateKey = KEY, timestamp: int = 1000) -> MinimalManifest:
    return MinimalManifest.build(
        name=NAME,
        version=Version(version),
        key=key,
        infohash=Sha256Digest(bytes(32)),
        size=1,
        chunks=Blake3Digest(bytes(32)),
        torrent=TorrentV2Hash(b"\1" * 32),
        timestamp=timestamp,
    )


def record(version: str, key: PrivateKey = KEY) -> SignedItem:
    found = minimal(version, key)
    return sign_item(key, manifest_salt(found.release), found.timestamp, bencode.encode(found.data))


def index(*versions: str, key: PrivateKey = KEY, seq: int = 5) -> SignedItem:
    made = build_index(NAME, [minimal(version, key) for version in versions], key, seq=seq)
    return parse_index(made, key.public).item


# --- offers ----------------------------------------------------------------------------------------------------------


def test_versions_of_each_publisher_are_listed_newest_first() -> None:
    items = [record("1.0.0"), record("1.10.0"), record("9.0.0", STRANGER), index("1.2.0", "1.10.0")]
    offers = {offer.publisher: offer for offer in offers_of(NAME, items)}
    assert [str(version) for version in offers[KEY.public].versions] == ["1.10.0", "1.2.0", "1.0.0"]
    assert offers[KEY.public].indexed
    assert [str(version) for version in offers[STRANGER.public].versions] == ["9.0.0"]
    assert not offers[STRANGER.public].indexed


def test_old_index_does_not_bring_a_withdrawn_version_back() -> None:
    offers = offers_of(NAME, [index("2.0.0", seq=7), index("1.0.0", "3.0.0", seq=6)])
    assert [str(version) for version in offers[0].versions] == ["2.0.0"]


def test_items_of_another_name_and_noise_are_left_out() -> None:
    noise = sign_item(KEY, b"i:hello", 1, bencode.encode(b"{}"))
    odd = sign_item(KEY, b"m:hello@1.0.0", 1, bencode.encode([1]))
    assert offers_of(PackageName("other"), [record("1.0.0")]) == []
    assert offers_of(NAME, [noise, odd]) == []


def test_pre_release_is_preferred_only_when_asked_for() -> None:
    versions = [Version("2.0.0-rc.1"), Version("1.0.0"), Version("1.0.0+build.5")]
    assert preferred(versions) in (Version("1.0.0"), Version("1.0.0+build.5"))
    assert preferred(versions, pre=True) == Version("2.0.0-rc.1")
    assert preferred([Version("2.0.0-rc.1")]) is None


# --- update ----------------------------------------------------------------------------------------------------------


def receipt(version: str, place: str = "/store/packages", key: PrivateKey = KEY) -> Receipt:
    return Receipt(minimal(version, key), f"{place}/hello@{version}", 1, "pin", "not checked")


def test_newest_installed_version_of_each_place_is_the_one_to_update() -> None:
    found = candidates([receipt("1.0.0"), receipt("1.2.0"), receipt("1.1.0", "/vendor")], [])
    assert [(str(one.parent), str(one.installed)) for one in found] == [
        ("/store/packages", "1.2.0"),
        ("/vendor", "1.1.0"),
    ]


def test_name_that_is_not_installed_is_said() -> None:
    with pytest.raises(LibreSeedError) as caught:
        candidates([receipt("1.0.0")], [PackageName("absent")])
    assert caught.value.reason == "notfound.installed"


@pytest.mark.parametrize(
    ("installed", "offered", "newer"),
    [("1.9.0", "1.10.0", True), ("1.10.0", "1.9.0", False), ("1.0.0", "1.0.0+b", False), ("1.0.0-rc.1", "1.0.0", True)],
)
def test_newer_is_what_semver_says(installed: str, offered: str, newer: bool) -> None:
    from dataclasses import replace

    one = candidates([receipt(installed)], [])[0]
    assert not one.is_newer
    assert replace(one, newest=Version(offered)).is_newer is newer


def test_update_hands_every_flag_of_the_resolver_on(place: Path) -> None:
    given = ["--silexium", "https://log.example", "--silexium", "copy", "--mirror", "https://a.example/"]
    given += ["--ca-file", "ca.pem", "--policy", str(place / "policy.toml"), "--bootstrap", "127.0.0.1:9"]
    (place / "policy.toml").write_text("")
    args = user_parser().parse_args(["update", *given, "--timeout", "90"])
    line = resolver_line(candidates([receipt("1.0.0")], [])[0], args, read_place(args))
    handed = resolver_parser().parse_args(line[3:])  # after python -c START
    assert (handed.silexium, handed.mirror, handed.ca_file) == (args.silexium, args.mirror, args.ca_file)
    assert (handed.policy, handed.bootstrap, handed.timeout) == (args.policy, args.bootstrap, args.timeout)
    assert not handed.no_silexium


def test_update_with_and_without_silexium_is_a_contradiction(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["update", "--no-silexium", "--silexium", "https://log.example"]) == 2
    assert "contradicts" in capsys.readouterr().err
    assert not (place / "store").exists()


# --- doctor ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    config = tmp_path / "config"
    config.mkdir()
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(config))
    monkeypatch.setenv("LIBRESEED_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LIBRESEED_LISTEN", "127.0.0.1:0")
    monkeypatch.delenv("LIBRESEED_KEY", raising=False)
    yield tmp_path


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[str]]]:
    code = main(["doctor", "--offline", "--json"])
    told = json.loads(capsys.readouterr().out)
    states: dict[str, list[str]] = {}
    for row in told["checks"]:
        states.setdefault(row["check"], []).append(row["state"])
        assert row["state"] == "ok" or row["remedy"]
    assert told["ok"] == (code == 0) and told.get("exit", 0) == code
    assert code == 0 or (told["reason"] and told["message"] and told["remedy"])
    return code, states


def test_a_machine_in_good_order_passes_and_nothing_is_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, states = doctor(capsys)
    assert code == 0
    assert states["store"] == states["keys"] == states["ports"] == states["clock"] == ["ok"]
    assert states["trust"] == states["Silexium"] == ["warn"]
    assert not (place / "store").exists()


def test_key_that_others_can_read_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = place / "config" / "my.key"
    assert main_keygen(key) == 0
    assert doctor(capsys)[0] == 0
    key.chmod(0o644)
    code, states = doctor(capsys)
    assert (code, states["keys"]) == (3, ["fail"])


def main_keygen(path: Path) -> int:
    from libreseed.adapters.command.keys import create_key

    create_key(path, None)
    return 0


def test_trust_store_that_others_can_write_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "add", "hello", str(KEY.public), "--json"]) == 0
    capsys.readouterr()
    assert doctor(capsys)[1]["trust"] == ["ok"]
    (place / "store" / "trust.json").chmod(0o666)
    code, states = doctor(capsys)
    assert (code, states["trust"]) == (3, ["fail"])


@pytest.mark.parametrize(
    ("file", "text"),
    [("resolver.toml", "no-such-key = 1"), ("policy.toml", "patience-seconds = 0"), ("policy.toml", "= not toml")],
)
def test_broken_settings_fail_with_their_reason(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, text: str
) -> None:
    (place / "config" / file).write_text(text)
    code, states = doctor(capsys)
    assert (code, states["settings, policy, pins"]) == (3, ["fail"])
    assert states["libtorrent"] == ["ok"]  # the rest is told nevertheless


def test_damaged_trust_store_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(place / "store").open()
    (place / "store" / "trust.json").write_text("{")
    assert doctor(capsys)[0] == 50


def test_store_below_a_file_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "store").write_text("")
    code, states = doctor(capsys)
    assert code == 50
    assert "fail" in states.get("store", []) + states.get("settings, policy, pins", [])


def test_occupied_port_fails(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LIBRESEED_LISTEN", f"127.0.0.1:{taken.getsockname()[1]}")
        code, states = doctor(capsys)
    assert (code, states["ports"]) == (3, ["fail"])


@pytest.mark.parametrize(("now", "state"), [(0.0, "fail"), (1.8e9, "ok"), (5e9, "fail")])
def test_clock_that_cannot_be_right_fails(now: float, state: str) -> None:
    assert checkup.clock(now).state == state
