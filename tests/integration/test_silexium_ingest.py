"""What ``ingest`` refuses: each time one thing is wrong, its reason is given, and nothing is taken in."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libreseed import wire
from libreseed.silexium.instants import format_instant
from tests.silexium_server_support import Shop, run

pytestmark = pytest.mark.integration

RELEASE = "hello@1.0.0"
Change = Callable[[Shop, Path], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with one complete release, to be copied."""
    root = tmp_path_factory.mktemp("made") / "shop"
    Shop.make(root).attested(RELEASE, binaries={"linux": b"for linux"})
    return root


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Shop:
    shutil.copytree(made, tmp_path / "shop")
    copy = Shop(tmp_path / "shop")
    for role in ("author", "tests"):
        copy.keys[role] = copy.public(role)
    return copy


def place_of(shop: Shop) -> Path:
    return shop.root / f"{RELEASE}.silexium"


def file(shop: Shop, suffix: str) -> Path:
    return place_of(shop) / f"{RELEASE}.{suffix}.json"


def edit(path: Path, **changes: object) -> None:
    """Change members of a document, which stays canonical; its signature then is that of other bytes."""
    members = json.loads(path.read_bytes())
    members |= changes
    path.write_bytes(wire.canonical(members))


def sheet(shop: Shop, old: str, new: str) -> None:
    path = place_of(shop) / "release.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def anew(shop: Shop, *more: str, role: str = "author", key: str | None = None) -> None:
    """Attest the release again, with another key or at another time."""
    for suffix in ("author", "tests") if role == "author" else ("tests",):
        file(shop, suffix).unlink()
    if role == "author":
        run("attest", "author", place_of(shop), "--key", shop.key(key or "author"))
    author = shop.public(key or "author") if role == "author" else shop.keys["author"]
    test_key = shop.key(key or "tests") if role == "tests" else shop.key("tests")
    line = ("attest", "tests", place_of(shop), "--key", test_key, "--author", author, "--suite", "suite")
    run(*line, "--result", "fail" if "fail" in more else "pass")


def new_key(shop: Shop, name: str) -> str:
    return str(run("key", "new", "--out", shop.key(name), "--no-passphrase")["pubkey"])


def stranger(shop: Shop, role: str) -> None:
    new_key(shop, "stranger")
    anew(shop, role=role, key="stranger")


def other_package(shop: Shop) -> None:
    run("key", "trust", new_key(shop, "narrow"), "--role", "author", "--package", "other", "--config", shop.server)
    anew(shop, key="narrow")


def other_role(shop: Shop) -> None:
    anew(shop, role="tests", key="author")


def both_as_author(shop: Shop) -> None:
    """One key that is trusted in both roles signs in both."""
    run("key", "trust", new_key(shop, "both"), "--role", "author", "--role", "tests", "--config", shop.server)
    for suffix in ("author", "tests"):
        file(shop, suffix).unlink()
    run("attest", "author", place_of(shop), "--key", shop.key("both"))
    author = shop.public("both")
    line = ("attest", "tests", place_of(shop), "--key", shop.key("both"), "--author", author)
    run(*line, "--suite", "suite", "--result", "pass")


def revoked(shop: Shop) -> None:
    run("key", "revoke", shop.keys["author"], "--config", shop.server)


def expired(shop: Shop) -> None:
    key = new_key(shop, "old")
    before = format_instant(int(time.time()) - 10)
    run("key", "trust", key, "--role", "author", "--not-after", before, "--config", shop.server)
    anew(shop, key="old")


def from_the_future(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time.time()) + 4000))
    anew(shop)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")


def changed_tgz(shop: Shop) -> None:
    """Another good .tgz of the same release, in place of the attested one."""
    tgz = shop.root / RELEASE / f"{RELEASE}.tgz"
    shutil.rmtree(tgz.parent)
    shop.tgz(RELEASE, {"README": b"something else\n"})


def damaged_tgz(shop: Shop) -> None:
    tgz = shop.root / RELEASE / f"{RELEASE}.tgz"
    tgz.write_bytes(tgz.read_bytes()[:-1])


def link_binary(shop: Shop, place: Path) -> None:
    """The right content, elsewhere on this machine."""
    (place / "tool-linux").rename(shop.root / "secret")
    (place / "tool-linux").symlink_to(shop.root / "secret")


ATTACKS: dict[str, tuple[Change, str, int]] = {
    "changed binary": (lambda s, p: (p / "tool-linux").write_bytes(b"for linuy"), "silexium.artifact", 40),
    "binary that is a link": (link_binary, "notfound.file", 10),
    "missing binary": (lambda s, p: (p / "tool-linux").unlink(), "notfound.file", 10),
    "another archive": (lambda s, p: changed_tgz(s), "silexium.artifact", 40),
    "damaged archive": (lambda s, p: damaged_tgz(s), "archive.truncated", 30),
    "missing archive": (lambda s, p: shutil.rmtree(s.root / RELEASE), "notfound.file", 10),
    "manifest of another channel": (
        lambda s, p: edit(file(s, "release"), channel="beta"),
        "silexium.release-sheet",
        40,
    ),
    "manifest of another version": (lambda s, p: edit(file(s, "release"), version="1.0.1"), "silexium.release", 40),
    "manifest not canonical": (lambda s, p: file(s, "release").write_bytes(b"{ }"), "silexium.manifest", 40),
    "missing manifest": (lambda s, p: file(s, "release").unlink(), "notfound.file", 10),
    "sheet of another license": (lambda s, p: sheet(s, "MIT", "GPL-3.0"), "silexium.release-sheet", 40),
    "sheet of another release": (lambda s, p: sheet(s, "1.0.0", "1.0.1"), "notfound.file", 10),
    "sheet with an unknown member": (
        lambda s, p: sheet(s, "package", "extra = 1\npackage"),
        "silexium.release-sheet",
        40,
    ),
    "sheet that is no TOML": (lambda s, p: sheet(s, "package", "package = ["), "silexium.release-sheet", 40),
    "sheet that leaves its folder": (lambda s, p: sheet(s, "tool-linux", "../tool"), "silexium.release-sheet", 40),
    "sheet with an absolute path": (lambda s, p: sheet(s, "tool-linux", "/etc/passwd"), "silexium.release-sheet", 40),
    "author's signature": (
        lambda s, p: edit(file(s, "author"), created_at="2026-09-21T14:13:21Z"),
        "silexium.signature",
        40,
    ),
    "missing author": (lambda s, p: file(s, "author").unlink(), "notfound.file", 10),
    "tests' signature": (
        lambda s, p: edit(file(s, "tests"), created_at="2026-09-21T14:13:21Z"),
        "silexium.signature",
        40,
    ),
    "missing tests": (lambda s, p: file(s, "tests").unlink(), "notfound.file", 10),
    "author nobody trusts": (lambda s, p: stranger(s, "author"), "silexium.key-unknown", 40),
    "tests nobody trusts": (lambda s, p: stranger(s, "tests"), "silexium.key-unknown", 40),
    "author of another package": (lambda s, p: other_package(s), "silexium.key-role", 40),
    "author in the tests' place": (lambda s, p: other_role(s), "silexium.key-role", 40),
    "one key in both roles": (lambda s, p: both_as_author(s), "silexium.key-reused", 40),
    "failed tests": (lambda s, p: anew(s, "fail", role="tests"), "silexium.tests-failed", 40),
    "revoked author": (lambda s, p: revoked(s), "silexium.key-revoked", 40),
    "expired author": (lambda s, p: expired(s), "silexium.key-expired", 40),
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_a_release_that_is_wrong_in_one_way_is_not_taken_in(shop: Shop, attack: str) -> None:
    change, reason, code = ATTACKS[attack]
    change(shop, place_of(shop))
    answer = shop.ingest(place_of(shop), code=code)
    assert answer["reason"] == reason
    assert shop.states() == {}


def test_an_attestation_from_the_future_is_not_taken_in(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from_the_future(shop, monkeypatch)
    assert shop.ingest(place_of(shop), code=40)["reason"] == "silexium.future"
    assert shop.states() == {}


def test_a_version_has_one_content_for_good(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.ingest(place_of(shop))
    assert shop.ingest(place_of(shop)) == first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time.time()) - 50))
    anew(shop, role="tests")
    assert shop.ingest(place_of(shop), code=40)["reason"] == "silexium.other-content"
    anew(shop)
    assert shop.ingest(place_of(shop), code=40)["reason"] == "silexium.other-content"
    assert shop.states() == {RELEASE: "staged"}


def test_a_server_key_that_also_speaks_as_author_is_refused(shop: Shop) -> None:
    server = shop.server / "server.key"
    run(
        "key",
        "trust",
        run("key", "show", server)["pubkey"],
        "--role",
        "author",
        "--role",
        "server",
        "--config",
        shop.server,
    )
    shutil.copy(server, shop.key("server"))
    anew(shop, key="server")
    assert shop.ingest(place_of(shop), code=40)["reason"] == "silexium.key-reused"
    assert shop.states() == {}


def test_what_is_said_about_a_key_stays(shop: Shop) -> None:
    key = new_key(shop, "third")
    config = ("--config", shop.server)
    run("key", "trust", key, "--role", "author", "--package", "hello", *config)
    run("key", "trust", key, "--role", "author", "--package", "hello", *config)
    assert run("key", "trust", key, "--role", "author", *config, code=40)["reason"] == "silexium.key-conflict"
    run("key", "revoke", key, "--at", "2026-09-01T00:00:00Z", *config)
    run("key", "revoke", key, "--at", "2026-10-01T00:00:00Z", *config)
    listed: list[dict[str, Any]] = [one for one in run("key", "list", *config)["keys"] if one["key"] == key]
    assert [one["revoked-at"] for one in listed] == ["2026-09-01T00:00:00Z"]
    assert run("key", "revoke", "0" * 64, *config, code=10)["reason"] == "notfound.key"


def test_attestations_never_replace_what_is_there(shop: Shop) -> None:
    before = file(shop, "author").read_bytes()
    answer = run("attest", "author", place_of(shop), "--key", shop.key("tests"), code=50)
    assert answer["reason"] == "storage.exists"
    assert file(shop, "author").read_bytes() == before


def test_tests_of_another_author_s_attestation_are_not_attested(shop: Shop) -> None:
    file(shop, "tests").unlink()
    line = ("attest", "tests", place_of(shop), "--key", shop.key("tests"), "--suite", "x", "--result", "pass")
    assert run(*line, "--author", shop.keys["tests"], code=40)["reason"] == "silexium.key-unknown"
    edit(file(shop, "author"), created_at="2026-09-21T14:13:21Z")
    assert run(*line, "--author", shop.keys["author"], code=40)["reason"] == "silexium.signature"
    assert not file(shop, "tests").exists()
