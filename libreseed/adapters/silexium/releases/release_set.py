"""A Silexium release folder: what a publisher's CI hands to a Silexium server, and what ``ingest`` takes.

``NAME@VERSION.silexium/`` holds ``release.toml``, ``NAME@VERSION.release.json`` (the release manifest's exact bytes),
``NAME@VERSION.author.json`` and ``NAME@VERSION.tests.json`` (attestations), and the binaries that release.toml names.
The .tgz lies beside them, or in the release folder ``NAME@VERSION`` next to this one. No other place is looked at,
whatever the sheet says. Files are never replaced by other content. Specification: ``silexium-api.md``, 1.

Everything blocks; trio code calls it in a thread.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.durable import durable_create
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.packing.archive import verify_archive
from libreseed.adapters.packing.archive_peek import peek_src
from libreseed.errors import LocalFault, NotFound, ProofRejected
from libreseed.ids import Blake3Digest, PublicKey, ReleaseId
from libreseed.silexium.attestation import Attestation, author_claim, parse_attestation, require_claim
from libreseed.silexium.release_manifest import ReleaseManifest, SrcIndex
from libreseed.silexium.release_sheet import Measure, ReleaseSheet, parse_release_sheet

__all__ = ["ReleaseSet", "SourceFacts", "measure_file", "measure_source", "read_release_sheet"]

SHEET_NAME = "release.toml"
_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A verified .tgz: which release it is, under which license (None: it says none), its measure and its SRC's."""

    release: ReleaseId
    license: str | None
    archive: Measure
    src_index: SrcIndex


@dataclass(frozen=True, slots=True)
class ReleaseSet:
    """Where the files of ``release`` lie in ``folder``; nothing is read or verified by making one."""

    folder: Path
    release: ReleaseId

    @classmethod
    def beside(cls, tgz: Path, release: ReleaseId) -> ReleaseSet:
        """The folder that belongs to ``tgz``: next to its release folder, else next to the .tgz itself."""
        parent = tgz.absolute().parent
        return cls((parent.parent if parent.name == str(release) else parent) / f"{release}.silexium", release)

    @property
    def sheet(self) -> Path:
        """release.toml."""
        return self.folder / SHEET_NAME

    @property
    def manifest(self) -> Path:
        """The release manifest."""
        return self.folder / f"{self.release}.release.json"

    @property
    def author(self) -> Path:
        """The author's attestation."""
        return self.folder / f"{self.release}.author.json"

    @property
    def tests(self) -> Path:
        """The tests' attestation."""
        return self.folder / f"{self.release}.tests.json"

    def find_tgz(self) -> Path:
        """The .tgz in this folder, next to it, or in the release folder next to it; raises :class:`NotFound`."""
        name, parent = f"{self.release}.tgz", self.folder.absolute().parent
        places = (self.folder / name, parent / str(self.release) / name, parent / name)
        for place in places:
            if place.is_file():
                return place
        raise NotFound("notfound.file", f"there is no {name} in {self.folder}, {places[1].parent} or {parent}")

    def build_manifest(self, sheet: ReleaseSheet, source: SourceFacts) -> ReleaseManifest:
        """The manifest of ``sheet`` and the files on disk; raises ``silexium.manifest`` or ``silexium.release``."""
        if source.release != self.release:
            message = f"the .tgz is of {source.release}, not of {self.release}"
            raise ProofRejected("silexium.release", message)
        binaries = {line.file: measure_file(self.folder / line.file, links=False) for line in sheet.binaries}
        return sheet.manifest(source.archive, source.src_index, binaries)

    def read_attestation(self, role: str) -> bytes:
        """The attestation of ``role``, ``author`` or ``tests``, at most a byte too long; raises NotFound."""
        path = self.author if role == "author" else self.tests
        try:
            return read_bounded(path, limits.ATTESTATION_BYTES)
        except NotFound as error:
            message = f"there is no {path}: 'libreseed-silexium attest {role}' makes it"
            raise NotFound("notfound.file", message) from error

    def read_author(self, manifest: ReleaseManifest, key: PublicKey) -> Attestation:
        """The author's attestation, under ``key`` and about ``manifest``; raises ``silexium.*`` or NotFound."""
        attestation = parse_attestation(self.read_attestation("author"), key)
        require_claim(attestation.claim, author_claim(manifest))
        return attestation

    def write(self, path: Path, data: bytes) -> None:
        """Create one of the files, durably; the same bytes again are fine, others raise ``storage.exists``."""
        self.folder.mkdir(exist_ok=True)
        try:
            durable_create(path, data)
        except FileExistsError as error:
            if read_bounded(path, len(data)) != data:
                raise LocalFault("storage.exists", f"{path} exists already, with other content") from error


def read_release_sheet(path: Path) -> tuple[ReleaseSet, ReleaseSheet]:
    """Read ``release.toml``, or the one in the folder ``path``; raises ``silexium.release-sheet`` or NotFound."""
    import tomli

    if path.is_dir():
        path = _sheet_in(path)
    data = read_bounded(path, limits.RELEASE_SHEET_BYTES)
    if len(data) > limits.RELEASE_SHEET_BYTES:
        message = f"{path} is larger than {limits.RELEASE_SHEET_BYTES} bytes"
        raise ProofRejected("silexium.release-sheet", message)
    try:
        table = tomli.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomli.TOMLDecodeError, RecursionError) as error:
        raise ProofRejected("silexium.release-sheet", f"{path} is not TOML: {error}") from error
    sheet = parse_release_sheet(table)
    return ReleaseSet(path.parent, sheet.release), sheet


def _sheet_in(folder: Path) -> Path:
    """A folder without a sheet is often the release folder, beside which the one that is meant lies."""
    sheet = folder / SHEET_NAME
    if not sheet.exists():
        meant = folder.absolute().with_name(f"{folder.absolute().name}.silexium")
        hint = f"{meant} has one" if (meant / SHEET_NAME).is_file() else "'libreseed-silexium attest author' makes one"
        raise NotFound("notfound.file", f"{folder} has no {SHEET_NAME}: {hint}")
    return sheet


def measure_source(tgz: Path) -> SourceFacts:
    """Verify ``tgz`` against itself (steps 8 and 9 of a resolver) and measure it and its SRC.

    Raises :class:`ContentRejected` for an archive that no resolver would take, NotFound and LocalFault.
    """
    archive = measure_file(tgz)
    manifest = verify_archive(tgz, None)
    src = peek_src(tgz, manifest)
    index = SrcIndex(len(src), Blake3Digest(blake3(src).digest()))
    return SourceFacts(manifest.release, manifest.texts.get("license"), archive, index)


def measure_file(path: Path, *, links: bool = True) -> Measure:
    """Size and BLAKE3 of a regular file; raises NotFound and LocalFault. Without ``links`` a link is no file: whoever
    made the folder must not choose what else of this machine is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotFound("notfound.file", f"{path} is not a regular file")
            return _measure(file)
    except OSError as error:
        raise from_oserror(error, f"reading {path}") from error


def _measure(file: BinaryIO) -> Measure:
    digest, size, memory = blake3(), 0, memoryview(bytearray(_READ_BYTES))
    while got := file.readinto(memory):  # type: ignore[attr-defined]  # raw files have it
        digest.update(memory[:got])
        size += got
    return Measure(size, Blake3Digest(digest.digest()))
