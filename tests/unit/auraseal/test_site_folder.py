"""``libreseed-mirror integrity``: manifest, recovery files and attributes of a website's folder, and their check."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libreseed import limits
from libreseed.adapters.auraseal import site_folder
from libreseed.adapters.auraseal.site_heal import heal_site
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import (
    IntegrityEntry,
    build_integrity_manifest,
    parse_integrity_manifest,
)
from libreseed_services.mirror.cli import main

CORE, EXTRA = b"console.log('core')\n", b"\0asm"
PAGE = (
    "<!DOCTYPE html>\r\n<p>caf\xe9</p>\r\n"  # not UTF-8 once encoded as latin-1: kept as it is
    '<script src="auraseal.js"></script>\r\n'
    '<script type="auraseal/module" src="../js/core.js?v=1"></script>\r\n'
    '<script type="auraseal/module" src="https://cdn.example/far.js" integrity="auraseal-sha512-kept"></script>\r\n'
).encode("latin-1")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for path, data in {
        "pages/index.html": PAGE,
        "js/core.js": CORE,
        "lib/extra.wasm": EXTRA,
        "lib/data.bin": b"",
        "auraseal.js": b"// loader",
        "style.css": b"p {}",
        ".hidden/x.js": b"x",
        "js/.x.js": b"x",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def _run(*arguments: str) -> int:
    return main(["integrity", *arguments])


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def _tree(root: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_everything_is_written_once_and_then_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "pages/index.html").chmod(0o640)
    assert _run(str(site), "--json") == 0
    report = _json(capsys)
    assert report["written"] == [
        "js/core.part.1.js",
        "lib/data.part.1.bin",
        "lib/extra.part.1.wasm",
        "pages/index.html",
        "integrity-manifest.json",
    ]
    assert report["foreign"] == ["pages/index.html:5: https://cdn.example/far.js"]
    manifest = parse_integrity_manifest((site / "integrity-manifest.json").read_bytes())
    assert set(manifest) == {"js/core.js", "lib/extra.wasm", "lib/data.bin", "auraseal.js"}
    core = manifest["js/core.js"]
    assert core.recovery == ("js/core.js", "js/core.part.1.js")
    assert core.integrity == Integrity.of(CORE, CORE)
    assert manifest["auraseal.js"].recovery is None
    assert (site / "js/core.part.1.js").read_bytes() == CORE
    expected = PAGE.replace(b'js?v=1"', b'js?v=1" integrity="' + str(core.integrity).encode() + b'"')
    assert (site / "pages/index.html").read_bytes() == expected
    assert stat.S_IMODE((site / "pages/index.html").stat().st_mode) == 0o640

    before = _tree(site)
    assert _run(str(site), "--json") == 0
    assert _json(capsys)["written"] == []
    assert _tree(site) == before
    assert _run(str(site), "--check", "--json") == 0
    assert _json(capsys) | {"foreign": []} == {
        "ok": True,
        "components": 4,
        "recoveries": 3,
        "attributes": 2,
        "foreign": [],
        "healed": [],
    }


def test_a_component_that_changes_is_followed(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(site)) == 0
    (site / "js/core.js").write_bytes(b"new")
    assert _run(str(site), "--check") == 30
    capsys.readouterr()
    assert _run(str(site), "--json") == 0
    assert _json(capsys)["written"] == ["js/core.part.1.js", "pages/index.html", "integrity-manifest.json"]
    assert (site / "js/core.part.1.js").read_bytes() == b"new"
    assert _run(str(site), "--check") == 0


def test_printing_writes_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _tree(site)
    assert _run(str(site), "--print", "--no-recovery") == 0
    assert f'js/core.js\n  integrity="{Integrity.of(CORE)}"\n' in capsys.readouterr().out
    assert _tree(site) == before


def test_without_recovery_files_there_is_one_hash(site: Path) -> None:
    assert _run(str(site), "--no-recovery") == 0
    assert str(Integrity.of(CORE)).encode() + b'"' in (site / "pages/index.html").read_bytes()
    assert not list(site.rglob("*.part.1.*"))
    assert _run(str(site), "--check") == 0


def test_which_files_are_components_can_be_said(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(site), "--component", "js/*.js", "--component", "*.css", "--json") == 0
    assert set(_json(capsys)["components"]) == {"js/core.js", "style.css"}


def test_what_is_too_large_for_the_loader_gets_one_hash(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits, "WEB_COMPONENT_BYTES", len(CORE) - 1)
    before = _tree(site)
    assert _run(str(site), "--json") == 30  # a page loads it
    assert _json(capsys)["reason"] == "auraseal.page"
    assert _tree(site) == before
    (site / "pages/index.html").unlink()
    assert _run(str(site), "--json") == 0
    assert _json(capsys)["components"]["js/core.js"] == str(Integrity.of(CORE))


def _add(path: str, data: bytes) -> Callable[[Path], None]:
    return lambda site: (site / path).write_bytes(data) and None


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        (_add("js/core.part.1.js", b"somebody's own"), "storage.exists", 50),
        (_add("a.html", b'<script type="auraseal/module" src="gone.js"></script>'), "auraseal.page", 30),
        (_add("a.html", b'<script type="auraseal/module" src="style.css"></script>'), "auraseal.page", 30),
        (_add("integrity-manifest.json", b"{ }"), "auraseal.not-canonical", 30),
        (lambda site: (site / "js/link.js").symlink_to("core.js"), "tree.symlink", 30),
        (lambda site: (site / "linked").symlink_to("js"), "tree.symlink", 30),
        (lambda site: (site / "js/CORE.js").write_bytes(b"x") and None, "auraseal.collision", 30),
        (lambda site: (site / "js/a\nb.js").write_bytes(b"x") and None, "auraseal.path", 30),
    ],
    ids=str,
)
def test_a_refusal_leaves_the_folder_as_it_was(
    site: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    reason: str,
    code: int,
) -> None:
    change(site)
    before = _tree(site)
    assert _run(str(site), "--json") == code
    assert _json(capsys)["reason"] == reason
    assert _tree(site) == before


def test_a_component_that_changes_meanwhile_is_refused(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = site_folder.plan_site(site, site_folder.SiteRules())
    (site / "js/core.js").write_bytes(CORE.upper())
    with pytest.raises(site_folder.ContentRejected) as caught:
        site_folder.apply_plan(plan)
    assert caught.value.reason == "tree.changed"
    assert not (site / "integrity-manifest.json").exists()


def test_no_folder_and_no_manifest_are_not_found(tmp_path: Path, site: Path) -> None:
    assert _run(str(tmp_path / "nowhere")) == 10
    assert _run(str(site), "--check") == 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            _add("js/core.js", CORE[:-1] + b"\t"),
            "js/core.js is not what the manifest says (browsers use the other file)",
        ),
        (
            _add("js/core.part.1.js", b"x"),
            "js/core.part.1.js is not what the manifest says (browsers use the other file)",
        ),
        (lambda site: (site / "js/core.js").unlink(), "js/core.js is missing (browsers use the other file)"),
        (_add("auraseal.js", b"x"), "auraseal.js is not what the manifest says"),
        (_add("new.js", b"x"), "new.js is not in the manifest"),
        (
            _add("b.html", b'<script type="auraseal/module" src="no.js"></script>'),
            "b.html:1: 'no.js' is not in the manifest",
        ),
        (
            _add("b.html", b'\n<script type="auraseal/module" src="js/core.js"></script>'),
            "b.html:2: the attribute of 'js/core.js' is not the manifest's",
        ),
    ],
)
def test_the_check_names_what_differs(
    site: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], says: str
) -> None:
    assert _run(str(site)) == 0
    change(site)
    before = _tree(site)
    capsys.readouterr()
    assert _run(str(site), "--check", "--json") == 30
    report = _json(capsys)
    assert report["reason"] == "auraseal.integrity"
    assert report["details"] == [says]
    assert _tree(site) == before


def test_a_single_fault_is_said_once_on_a_terminal(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(site)) == 0
    (site / "new.js").write_bytes(b"x")
    capsys.readouterr()
    assert _run(str(site), "--check") == 30
    assert capsys.readouterr().err.count("new.js is not in the manifest") == 1


def test_several_faults_are_all_named(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(site)) == 0
    for path in ("js/core.js", "js/core.part.1.js", "lib/data.bin"):
        (site / path).write_bytes(b"x")
    capsys.readouterr()
    assert _run(str(site), "--check") == 30
    err = capsys.readouterr().err
    assert "js/core.js is not what the manifest says, and 2 more" in err
    assert "  lib/data.bin is not what the manifest says (browsers use the other file)" in err


@pytest.mark.parametrize("path", ["js/core.js", "js/core.part.1.js", "lib/extra.wasm"])
@pytest.mark.parametrize("damage", ["changed", "cut", "longer", "gone"])
def test_a_damaged_file_is_healed_from_its_twin(
    site: Path, capsys: pytest.CaptureFixture[str], path: str, damage: str
) -> None:
    assert _run(str(site)) == 0
    good = (site / path).read_bytes()
    if damage == "gone":
        (site / path).unlink()
    else:
        (site / path).write_bytes({"changed": good.swapcase(), "cut": good[:-1], "longer": good + b"x"}[damage])
    if (site / path).exists() and (site / path).read_bytes() == good:
        pytest.fail("nothing was damaged")
    before = _tree(site)
    assert _run(str(site), "--check") == 30
    assert _tree(site) == before
    capsys.readouterr()
    assert _run(str(site), "--heal", "--json") == 0
    assert _json(capsys)["healed"] == [path]
    assert (site / path).read_bytes() == good
    healed = _tree(site)
    assert _run(str(site), "--heal", "--json") == 0
    assert _json(capsys)["healed"] == []
    assert _tree(site) == healed


def _both(site: Path) -> None:
    (site / "js/core.js").write_bytes(b"x")
    (site / "js/core.part.1.js").write_bytes(b"x")


def _linked(site: Path) -> None:
    (site / "outside").write_bytes(b"kept")
    (site / "js/core.js").unlink()
    (site / "js/core.js").symlink_to("../outside")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_both, "auraseal.integrity"), (_linked, "tree.symlink"), (_add("auraseal.js", b"x"), "auraseal.integrity")],
)
def test_what_has_no_good_twin_is_left_as_it_is(
    site: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], reason: str
) -> None:
    assert _run(str(site)) == 0
    damage(site)
    before = _tree(site)
    capsys.readouterr()
    assert _run(str(site), "--heal", "--json") == 30
    assert _json(capsys)["reason"] == reason
    assert _tree(site) == before


def test_hashes_that_differ_by_intention_heal_nothing(site: Path) -> None:
    both = Integrity.of(CORE, EXTRA)
    entry = IntegrityEntry(both, len(CORE), recovery=("js/core.js", "lib/extra.wasm"))
    (site / "integrity-manifest.json").write_bytes(build_integrity_manifest({"js/core.js": entry}))
    for damaged, whole in (("lib/extra.wasm", "js/core.js"), ("js/core.js", "lib/extra.wasm")):
        before = (site / damaged).read_bytes()
        assert heal_site(site) == ()  # both are right
        (site / damaged).write_bytes(b"x")
        assert heal_site(site) == ()
        assert (site / damaged).read_bytes() == b"x"
        (site / damaged).write_bytes(before)
        assert (site / whole).read_bytes() in (CORE, EXTRA)


def test_a_size_that_is_not_the_files_is_a_fault(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(site), "--no-recovery") == 0
    manifest = site / "integrity-manifest.json"
    entries = parse_integrity_manifest(manifest.read_bytes())
    entries["js/core.js"] = replace(entries["js/core.js"], size=len(CORE) + 1)
    manifest.write_bytes(build_integrity_manifest(entries))
    capsys.readouterr()
    assert _run(str(site), "--check", "--json") == 30
    assert _json(capsys)["details"] == ["js/core.js is not what the manifest says"]


def test_a_write_that_fails_is_told_and_the_manifest_comes_last(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    whole = site_folder.durable_write

    def failing(path: Path, data: bytes, mode: int = 0o644) -> None:
        if path.suffix == ".html":
            raise OSError(28, os.strerror(28), str(path))
        written.append(path.name)
        whole(path, data, mode)

    monkeypatch.setattr(site_folder, "durable_write", failing)
    assert _run(str(site), "--json") == 50
    assert _json(capsys)["reason"] == "storage.full"
    assert written == ["core.part.1.js", "data.part.1.bin", "extra.part.1.wasm"]
    assert not (site / "integrity-manifest.json").exists()
    monkeypatch.undo()
    assert _run(str(site)) == 0
    assert _run(str(site), "--check") == 0


def test_a_manifest_that_heals_through_a_linked_folder_writes_nothing_out_there(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (site / "away").symlink_to(outside)
    entry = IntegrityEntry(Integrity.of(CORE, CORE), len(CORE), recovery=("mine.js", "away/theirs"))
    (site / "mine.js").write_bytes(CORE)
    (site / "integrity-manifest.json").write_bytes(build_integrity_manifest({"mine.js": entry}))
    assert _run(str(site), "--heal", "--json") == 30
    assert _json(capsys)["reason"] == "tree.symlink"
    assert list(outside.iterdir()) == []
