"""Request, policy, trust, floors, receipts and the store that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed import limits
from libreseed.adapters.resolving.policy_file import read_policy
from libreseed.adapters.resolving.store import Store, store_root
from libreseed.adapters.resolving.trust_store import TrustStore
from libreseed.errors import LocalFault, NotFound, RecordRejected, UsageFault
from libreseed.ids import Blake3Digest, PackageName, ReleaseId, Sha256Digest, TorrentV2Hash, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.floors import Floor, check_floor, parse_floor, raise_floor
from libreseed.resolve.policy import DEFAULT_POLICY, Policy, parse_policy
from libreseed.resolve.receipt import Receipt, parse_receipt
from libreseed.resolve.request import Request, parse_key, parse_release
from libreseed.resolve.trust import TrustBasis, pin_command, trusted_publishers, untrusted

KEY, OTHER = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
RELEASE = ReleaseId.parse("pkg@1.0.0")
NAME = PackageName("pkg")
V2 = TorrentV2Hash(b"\x09" * 32)


def minimal(timestamp: int = 5, *, key: PrivateKey = KEY, release: ReleaseId = RELEASE) -> MinimalManifest:
    return MinimalManifest.build(
        name=release.name,
        version=release.version,
        infohash=Sha256Digest(b"\x03" * 32),
        size=100,
        chunks=Blake3Digest(b"\x04" * 32),
        torrent=V2,
        timestamp=timestamp,
        key=key,
    )


# --- request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["pkg", "pkg@", "@1.0.0", "pkg@1", "Pkg@1.0.0", "pkg@1.0.0 ", "pkg@^1.0.0", ""])
def test_what_is_no_release_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageFault) as caught:
        parse_release(text)
    assert caught.value.reason == "usage"


def test_what_is_no_key_is_a_usage_error() -> None:
    assert parse_key(str(KEY.public)) == KEY.public
    with pytest.raises(UsageFault):
        parse_key("ed25519:AAAA")


# --- policy ------------------------------------------------------------------------------------------------------


def test_policy_members() -> None:
    policy = parse_policy(
        {
            "max-package-bytes": 10,
            "silexium": "required",
            "patience-seconds": 3,
            "peer-silence-seconds": 4,
            "publishers": {"pkg": [str(KEY.public)]},
        }
    )
    assert (policy.max_package_bytes, policy.silexium_waivable) == (10, False)
    assert (policy.patience_s, policy.peer_silence_s) == (3, 4)
    assert policy.publishers[NAME] == (KEY.public,)
    assert parse_policy({}) == DEFAULT_POLICY


@pytest.mark.parametrize(
    "members",
    [
        {"max-package-byte": 10},
        {"max-package-bytes": 0},
        {"max-package-bytes": True},
        {"max-package-bytes": limits.PACKAGE_BYTES + 1},
        {"max-package-bytes": "10"},
        {"silexium": "off"},
        {"silexium": False},
        {"patience-seconds": 0},
        {"peer-silence-seconds": 1.5},
        {"publishers": []},
        {"publishers": {"pkg": []}},
        {"publishers": {"pkg": "ed25519:x"}},
        {"publishers": {"Pkg": [str(KEY.public)]}},
        {"publishers": {"pkg": ["ed25519:x"]}},
    ],
)
def test_policy_that_is_not_understood_is_an_error(members: dict[str, object]) -> None:
    with pytest.raises(UsageFault) as caught:
        parse_policy(members)
    assert caught.value.reason == "config.policy"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", "max-package-bytes = 10\n[publishers]\npkg = ['KEY']"),
        ("p.json", '{"max-package-bytes": 10, "publishers": {"pkg": ["KEY"]}}'),
    ],
)
def test_policy_files(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text.replace("KEY", str(KEY.public)))
    assert read_policy(path) == Policy(max_package_bytes=10, publishers={NAME: (KEY.public,)})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", "max-package-bytes = "),
        ("p.toml", "unknown = 1"),
        ("p.json", '{"silexium": "required", "silexium": "waivable"}'),
        ("p.json", "[]"),
        ("p.json", "{"),
    ],
)
def test_bad_policy_files(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageFault) as caught:
        read_policy(path)
    assert caught.value.reason == "config.policy"


def test_missing_policy_file_is_10(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read_policy(tmp_path / "none.toml")
    assert caught.value.exit_code == 10


# --- trust -------------------------------------------------------------------------------------------------------


def test_first_match_decides_whom_to_believe() -> None:
    named, bare = Request(RELEASE, publisher=OTHER.public), Request(RELEASE)
    pins = {NAME: (KEY.public,)}
    assert trusted_publishers(named, pins, pins) == TrustBasis((OTHER.public,), "flag")
    assert trusted_publishers(bare, pins, {NAME: (OTHER.public,)}) == TrustBasis((KEY.public,), "policy")
    assert trusted_publishers(bare, {}, pins) == TrustBasis((KEY.public,), "pin")
    assert trusted_publishers(bare, {}, {PackageName("other"): (KEY.public,)}) is None


def test_refusal_lists_every_claimant_and_how_to_pin_it() -> None:
    error = untrusted(Request(RELEASE), [KEY.public, OTHER.public])
    assert error.exit_code == 21
    for key in (KEY.public, OTHER.public):
        assert str(key) in error.message
        assert any(line.endswith(pin_command(NAME, key)) for line in error.details)
        assert any(line.endswith(f"--publisher {key}") for line in error.details)


def test_the_command_that_pins_names_the_store_that_this_run_was_told_of() -> None:
    error = untrusted(Request(RELEASE, named_store="/srv/my store"), [KEY.public])
    assert error.evidence["commands"] == [f"libreseed trust add {NAME} {KEY.public} --store '/srv/my store'"]
    assert error.details[0].endswith("--store '/srv/my store'")


def test_pins_are_kept_and_removed(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path / "store")
    assert dict(trust.pins()) == {}
    trust.add(NAME, KEY.public)
    trust.add(NAME, KEY.public)
    trust.add(NAME, OTHER.public)
    assert dict(TrustStore(tmp_path / "store").pins()) == {NAME: (KEY.public, OTHER.public)}
    trust.remove(NAME, KEY.public)
    trust.remove(NAME, OTHER.public)
    assert dict(trust.pins()) == {}


@pytest.mark.parametrize("data", [b"", b"{}", b'{"protocol":"libreseed-trust-v2","publishers":{}}', b"\xff"])
def test_damaged_trust_store_is_an_error_not_an_empty_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trust.json").write_bytes(data)
    with pytest.raises(LocalFault) as caught:
        TrustStore(tmp_path).pins()
    assert caught.value.reason == "storage.state"


# --- floors ------------------------------------------------------------------------------------------------------


def floor_of(record: MinimalManifest) -> Floor:
    return raise_floor(None, RELEASE, record.pubkey, record.timestamp, record.data)


def test_rollback_is_refused() -> None:
    with pytest.raises(RecordRejected) as caught:
        check_floor(floor_of(minimal(5)), 4, minimal(4).data)
    assert (caught.value.reason, caught.value.exit_code) == ("floor.rollback", 22)
    assert caught.value.evidence["floor"] == 5


def test_second_record_of_the_same_time_is_refused() -> None:
    with pytest.raises(RecordRejected) as caught:
        check_floor(floor_of(minimal(5)), 5, minimal(5).data.replace(b"100", b"101"))
    assert (caught.value.reason, caught.value.exit_code) == ("floor.conflict", 22)


def test_same_and_newer_records_pass_and_the_floor_only_rises() -> None:
    floor = floor_of(minimal(5))
    check_floor(floor, 5, minimal(5).data)
    assert raise_floor(floor, RELEASE, KEY.public, 6, minimal(6).data).timestamp == 6
    with pytest.raises(RecordRejected):
        raise_floor(floor, RELEASE, KEY.public, 4, minimal(4).data)


def test_floor_round_trip_and_every_changed_byte() -> None:
    floor = floor_of(minimal(5))
    assert parse_floor(floor.data, RELEASE, KEY.public) == floor
    for at in range(len(floor.data)):
        broken = bytearray(floor.data)
        broken[at] ^= 1
        try:
            assert parse_floor(bytes(broken), RELEASE, KEY.public) != floor
        except LocalFault as error:
            assert error.reason == "storage.state"


def test_floor_of_another_release_is_an_error() -> None:
    with pytest.raises(LocalFault):
        parse_floor(floor_of(minimal(5)).data, ReleaseId.parse("pkg@1.0.1"), KEY.public)


# --- receipts and the store --------------------------------------------------------------------------------------


def test_receipt_round_trip_and_damage() -> None:
    receipt = Receipt(minimal(), "/somewhere", 7, "flag", "not checked")
    assert parse_receipt(receipt.data) == receipt
    for data in (b"", b"{}", receipt.data[:-1], receipt.data.replace(b"100", b"101")):
        with pytest.raises(LocalFault) as caught:
            parse_receipt(data)
        assert caught.value.reason == "storage.state"


def test_store_keeps_receipts_by_place_and_floors_by_publisher(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open()
    here, there = store.packages / str(RELEASE), tmp_path / "out" / str(RELEASE)
    store.keep_receipt(Receipt(minimal(), str(here), 7, "flag", "not checked"))
    assert store.receipt(RELEASE, here) is not None
    assert store.receipt(RELEASE, there) is None
    store.keep_floor(floor_of(minimal(5)))
    assert set(store.floors(RELEASE, (KEY.public, OTHER.public))) == {KEY.public}
    assert store.floors(ReleaseId.parse("pkg@2.0.0"), (KEY.public,)) == {}


def test_workspace_of_other_content_is_removed_and_of_other_releases_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open()
    longer = ReleaseId(NAME, Version("1.0.0-a"))
    kept = store.workspace(longer, V2)
    old = store.workspace(RELEASE, TorrentV2Hash(b"\x08" * 32))
    new = store.workspace(RELEASE, V2)
    assert not old.root.exists()
    assert new.swarm.is_dir()
    assert kept.swarm.is_dir()
    assert [space.root for space in store.workspaces(RELEASE)] == [new.root]
    store.discard(new)
    store.discard(new)
    assert not new.root.exists()


def test_lock_excludes_a_second_resolver_until_it_is_closed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second, third = store.lock(RELEASE), store.lock(RELEASE), store.lock(ReleaseId.parse("pkg@1.0.1"))
    assert first.acquire(wait=False)
    assert not second.acquire(wait=False)
    assert third.acquire(wait=False)
    first.close()
    second.close()  # nobody waits any more: a late success must not keep the lock
    assert not second.acquire(wait=True)
    assert store.lock(RELEASE).acquire(wait=False)


def test_store_root_is_named_or_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBRESEED_STORE", str(tmp_path / "env"))
    assert store_root(tmp_path / "named") == tmp_path / "named"
    assert store_root() == tmp_path / "env"
    monkeypatch.delenv("LIBRESEED_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert store_root().is_relative_to(tmp_path / "xdg")
