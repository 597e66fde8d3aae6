"""``attest``: sign a release as its author or as its tests, offline; for CI. docs/specification/silexium-api.md, 1."""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Report
from libreseed.errors import Malformed, UsageFault

from .commands import Commands, add_key_flags, add_subcommands, key_of

if TYPE_CHECKING:
    from libreseed.adapters.silexium.releases.release_set import ReleaseSet, SourceFacts
    from libreseed.silexium.attestation import Attestation
    from libreseed.silexium.release_sheet import ReleaseSheet

__all__ = ["add_parser"]

_EXAMPLES = """\
  libreseed-silexium attest author releases/hello@1.0.0/hello@1.0.0.tgz --key author.key --license MIT
  libreseed-silexium attest tests releases/hello@1.0.0.silexium --key tests.key --author ed25519:... \\
    --suite https://ci.example/42 --result pass"""
_DECIMAL = re.compile("0|[1-9][0-9]{0,11}", re.ASCII)


def add_parser(commands: Commands) -> None:
    """Register ``attest author`` and ``attest tests``."""
    inner = add_subcommands(commands, "attest", summary="sign a release as author or tests", examples=_EXAMPLES)
    author = inner.add_parser(
        "author",
        help="write the release manifest and sign it as the author",
        description="Verify the .tgz, write release.toml (unless it is given) and the release manifest, and attest "
        "both. They go into the folder NAME@VERSION.silexium, or beside the release.toml that is given.",
        examples="  libreseed-silexium attest author hello@1.0.0/ --key author.key --channel beta\n"
        "  libreseed-silexium attest author hello@1.0.0.silexium/release.toml --key author.key",
    )
    author.add_argument("release", metavar="RELEASE", help="a .tgz, its release folder, or a release.toml")
    author.add_argument("--channel", metavar="NAME", help="the release's channel (default: stable)")
    author.add_argument("--license", metavar="TEXT", help="the license (default: what the package says)")
    author.add_argument("--url", metavar="URL", help="where the .tgz is (default: libreseed:NAME@VERSION)")
    add_key_flags(author)
    author.set_defaults(handler=_author)
    tests = inner.add_parser(
        "tests",
        help="sign what the tests of a release found",
        description="Verify the author's attestation and the .tgz, and attest the result of a test suite.",
        examples="  libreseed-silexium attest tests hello@1.0.0.silexium --key tests.key --author ed25519:... "
        "--suite ci-42 --result pass --report junit.xml",
    )
    tests.add_argument("release", metavar="RELEASE", help="the folder NAME@VERSION.silexium, or its release.toml")
    tests.add_argument("--author", required=True, metavar="KEY", help="the author's public key, ed25519:...")
    tests.add_argument("--suite", required=True, metavar="ID", help="what was run (test_suite_id)")
    tests.add_argument("--result", required=True, choices=("pass", "fail"), help="what came out")
    tests.add_argument("--report", metavar="F", help="the tests' report; its BLAKE3 is attested")
    add_key_flags(tests)
    tests.set_defaults(handler=_tests)


def _author(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.releases.release_set import measure_source
    from libreseed.silexium.attestation import Attestation, author_claim

    now = _now()
    given = Path(arguments.release)
    place, sheet, facts = _given_sheet(arguments, given) if _is_sheet(given) else _new_sheet(arguments, given, now)
    facts = facts or measure_source(place.find_tgz())
    manifest = place.build_manifest(sheet, facts)
    attestation = Attestation.build(author_claim(manifest), now, key_of(arguments))
    if not _is_sheet(given):
        place.write(place.sheet, sheet.toml.encode())
    place.write(place.manifest, manifest.data)
    place.write(place.author, attestation.data)
    return _report(attestation, place.author, place, {"manifest": str(manifest.digest)})


def _tests(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.releases.release_set import measure_file, measure_source, read_release_sheet
    from libreseed.ids import PublicKey
    from libreseed.silexium.attestation import Attestation, SuiteClaim

    try:
        author_key = PublicKey.parse(arguments.author)
    except Malformed as error:
        raise UsageFault("usage", f"--author: {error.message}") from error
    place, sheet = read_release_sheet(Path(arguments.release))
    manifest = place.build_manifest(sheet, measure_source(place.find_tgz()))
    author = place.read_author(manifest, author_key)
    report = None if arguments.report is None else measure_file(Path(arguments.report)).blake3
    claim = SuiteClaim(author.digest, manifest.digest, arguments.suite, arguments.result == "pass", report)
    attestation = Attestation.build(claim, _now(), key_of(arguments))
    place.write(place.tests, attestation.data)
    return _report(attestation, place.tests, place, {"result": arguments.result})


def _is_sheet(path: Path) -> bool:
    return path.suffix == ".toml" or (path / "release.toml").is_file()


def _given_sheet(arguments: argparse.Namespace, path: Path) -> tuple[ReleaseSet, ReleaseSheet, None]:
    from libreseed.adapters.silexium.releases.release_set import read_release_sheet

    for flag in ("channel", "license", "url"):
        if getattr(arguments, flag) is not None:
            raise UsageFault("usage", f"--{flag} is for a .tgz; here release.toml says it")
    return (*read_release_sheet(path), None)


def _new_sheet(arguments: argparse.Namespace, given: Path, now: int) -> tuple[ReleaseSet, ReleaseSheet, SourceFacts]:
    from libreseed.adapters.silexium.releases.release_set import ReleaseSet, measure_source
    from libreseed.silexium.release_sheet import ReleaseSheet

    tgz = given / f"{given.resolve().name}.tgz" if given.is_dir() else given
    facts = measure_source(tgz)
    license_text = arguments.license or facts.license
    if not license_text:
        raise UsageFault("usage", f"{tgz.name} names no license: give --license")
    url = arguments.url or f"libreseed:{facts.release}"
    sheet = ReleaseSheet(facts.release, arguments.channel or "stable", license_text, now, url)
    return ReleaseSet.beside(tgz, facts.release), sheet, facts


def _now() -> int:
    """Unix seconds; SOURCE_DATE_EPOCH decides where it is set, so that CI can make the same bytes again."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return int(time.time())
    if not _DECIMAL.fullmatch(text):
        raise UsageFault("config.value", f"SOURCE_DATE_EPOCH is not a number of seconds since 1970: {text!r:.60}")
    return int(text)


def _report(attestation: Attestation, path: Path, place: ReleaseSet, more: dict[str, object]) -> Report:
    data = {
        "release": str(place.release),
        "folder": str(place.folder),
        "path": str(path),
        "attestation": str(attestation.digest),
        "key_id": str(attestation.key_id),
        **more,
    }
    return Report(f"{path}\nattestation {attestation.digest}", data)
