"""``attest`` as CI runs it: from a .tgz, a release folder or a release.toml; the same bytes again; what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from libreseed.errors import ProofRejected
from libreseed.ids import PackageName, PublicKey, ReleaseId, Version
from libreseed.silexium.attestation import AuthorClaim, SuiteClaim, parse_attestation
from libreseed.silexium.release_manifest import parse_release_manifest
from libreseed.silexium.release_sheet import BinaryLine, ReleaseSheet, parse_release_sheet
from tests.release_support import make_release
from tests.silexium_server_support import run

pytestmark = pytest.mark.integration

RELEASE = "hello@1.0.0"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    paths = {role: tmp_path / f"{role}.key" for role in ("author", "tests")}
    for path in paths.values():
        run("key", "new", "--out", path, "--no-passphrase")
    return paths


def public(path: Path) -> PublicKey:
    return PublicKey.parse(run("key", "show", path)["pubkey"])


@pytest.mark.parametrize("form", ["tgz", "folder", "sheet", "sheet's folder"])
def test_the_author_attests_what_is_given_in_any_form(tmp_path: Path, keys: dict[str, Path], form: str) -> None:
    files, _ = make_release(tmp_path, RELEASE)
    place = tmp_path / f"{RELEASE}.silexium"
    given: dict[str, Path] = {"tgz": files.tgz, "folder": files.folder, "sheet": place / "release.toml"}
    if form.startswith("sheet"):
        place.mkdir()
        sheet = ReleaseSheet(ReleaseId.parse(RELEASE), "stable", "MIT", 1_790_000_000, f"libreseed:{RELEASE}")
        (place / "release.toml").write_text(sheet.toml)
        answer = run("attest", "author", given.get(form, place), "--key", keys["author"])
    else:
        answer = run("attest", "author", given[form], "--key", keys["author"], "--license", "MIT")
    assert sorted(path.name for path in place.iterdir()) == [
        "hello@1.0.0.author.json",
        "hello@1.0.0.release.json",
        "release.toml",
    ]
    manifest = parse_release_manifest((place / "hello@1.0.0.release.json").read_bytes())
    claim = parse_attestation(Path(answer["path"]).read_bytes(), public(keys["author"])).claim
    assert isinstance(claim, AuthorClaim)
    assert (claim.manifest_hash, claim.source_artifact_hash) == (manifest.digest, manifest.source.blake3)
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(
        files.path(suffix).name for suffix in (".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json")
    ), "the release folder is left as it was"


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, keys: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        files, _ = make_release(tmp_path / name, RELEASE)
        run("attest", "author", files.tgz, "--key", keys["author"], "--license", "MIT")
        place = tmp_path / name / f"{RELEASE}.silexium"
        line = ("attest", "tests", place, "--key", keys["tests"], "--author", public(keys["author"]))
        run(*line, "--suite", "s", "--result", "pass", "--report", files.path(".minimal.json"))
        run(
            *line, "--suite", "s", "--result", "pass", "--report", files.path(".minimal.json")
        )  # again: nothing changes
        found.append({path.name: path.read_bytes() for path in place.iterdir()})
    assert found[0] == found[1]
    claim = parse_attestation(found[0]["hello@1.0.0.tests.json"], public(keys["tests"])).claim
    assert isinstance(claim, SuiteClaim)
    assert claim.test_report_hash is not None


def test_a_release_without_a_license_needs_one(tmp_path: Path, keys: dict[str, Path]) -> None:
    files, _ = make_release(tmp_path, RELEASE)
    assert run("attest", "author", files.tgz, "--key", keys["author"], code=2)["reason"] == "usage"
    assert not (tmp_path / f"{RELEASE}.silexium").exists()


def test_a_damaged_archive_is_not_attested(tmp_path: Path, keys: dict[str, Path]) -> None:
    files, _ = make_release(tmp_path, RELEASE)
    files.tgz.write_bytes(files.tgz.read_bytes()[:-1])
    line = ("attest", "author", files.tgz, "--key", keys["author"], "--license", "MIT")
    assert run(*line, code=30)["reason"] == "archive.truncated"
    assert not (tmp_path / f"{RELEASE}.silexium").exists()


def test_an_archive_changed_since_is_not_attested_by_the_tests(tmp_path: Path, keys: dict[str, Path]) -> None:
    files, _ = make_release(tmp_path, RELEASE)
    run("attest", "author", files.tgz, "--key", keys["author"], "--license", "MIT")
    place = tmp_path / f"{RELEASE}.silexium"
    (tmp_path / "new").mkdir()
    other, _ = make_release(tmp_path / "new", RELEASE, {"README": b"something else\n"})
    other.tgz.replace(files.tgz)
    line = ("attest", "tests", place, "--key", keys["tests"], "--author", public(keys["author"]))
    assert run(*line, "--suite", "s", "--result", "pass", code=40)["reason"] == "silexium.claim"
    assert not (place / "hello@1.0.0.tests.json").exists()


# --- release.toml ----------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
lines = st.builds(
    BinaryLine,
    file=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+~-]{0,20}", fullmatch=True),
    os=texts,
    arch=texts,
    url=texts,
)
sheets = st.builds(
    ReleaseSheet,
    release=st.just(ReleaseId(PackageName("hello"), Version("1.0.0-rc.1+x"))),
    channel=texts,
    license=texts,
    created_at=st.integers(0, 253402300799),
    url=texts,
    binaries=st.lists(lines, max_size=3, unique_by=lambda line: line.file).map(tuple),
)


@given(sheets)
def test_a_sheet_survives_the_round_trip(sheet: ReleaseSheet) -> None:
    assert parse_release_sheet(tomli.loads(sheet.toml)) == sheet


GOOD = {
    "package": "hello",
    "version": "1.0.0",
    "channel": "stable",
    "license": "MIT",
    "created-at": "2026-09-21T14:13:20Z",
}
BINARY = {"file": "tool", "os": "linux", "arch": "x86_64", "url": "https://example.org/tool"}


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in (*GOOD, "url", "binaries") for value in (1, None, [1], {}, True)),
        {"package": "Hello"},
        {"version": "1.0"},
        {"created-at": "2026-09-21"},
        {"extra": 1},
        {"binaries": [BINARY, BINARY]},
        {"binaries": [{**BINARY, "extra": 1}]},
        {"binaries": [{**BINARY, "file": "../tool"}]},
        {"binaries": [{**BINARY, "file": "a/b"}]},
        {"binaries": [{**BINARY, "file": "/etc/passwd"}]},
        {"binaries": [{**BINARY, "file": ".hidden"}]},
        {"binaries": [{**BINARY, "file": ""}]},
        {"binaries": [{**BINARY, "file": "x" * 201}]},
        {"binaries": [{**BINARY, "file": f"tool{number}"} for number in range(64)]},
    ],
    ids=lambda change: json.dumps(change, default=str)[:60],
)
def test_a_sheet_that_is_not_in_form_is_refused(change: dict[str, object]) -> None:
    assert parse_release_sheet(GOOD | {"binaries": [BINARY]}).binaries[0].file == "tool"
    with pytest.raises(ProofRejected) as caught:
        parse_release_sheet(GOOD | change)
    assert caught.value.reason == "silexium.release-sheet"
