"""``build --silexium``: the folder NAME@VERSION.silexium that a Silexium server takes in, signed with the same key.

The author attestation names the .tgz (BLAKE3), the release manifest and SRC. What ``libreseed-silexium attest author``
writes later from a release is the same; here key and .tgz are at hand. docs/specification/silexium-api.md, 1.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from libreseed.adapters.command.console import Report
from libreseed.adapters.files.durable import publish_directory, staging_directory
from libreseed.adapters.packing.archive_peek import peek_src
from libreseed.adapters.release.release_build import BuiltRelease, ReleasePlan
from libreseed.adapters.silexium.releases.release_set import ReleaseSet, measure_file
from libreseed.errors import LocalFault, UsageFault
from libreseed.ids import Blake3Digest, ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.attestation import Attestation, author_claim
from libreseed.silexium.release_manifest import SrcIndex
from libreseed.silexium.release_sheet import ReleaseSheet

__all__ = ["SetOfRelease"]


@dataclass(slots=True)
class SetOfRelease:
    """The folder of one build. ``created_at`` in Unix seconds; ``staging`` is where it lies until it is published."""

    release: ReleaseId
    out: Path
    channel: str
    license: str
    created_at: int
    staging: Path | None = None
    attestation: Attestation | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace, plan: ReleasePlan, out: Path) -> SetOfRelease | None:
        """What the flags of ``build`` ask for; None without ``--silexium``.

        Raises ``usage`` without a license, which the author must attest, and ``storage.exists``.
        """
        if not arguments.silexium:
            if arguments.channel is not None:
                raise UsageFault("usage", "--channel is for --silexium")
            return None
        if not arguments.license:
            raise UsageFault("usage", "--silexium: the author attests the license; give --license")
        made = cls(plan.release, out, arguments.channel or "stable", arguments.license, plan.timestamp // 1000)
        if os.path.lexists(made.folder):
            raise LocalFault("storage.exists", f"{made.folder} exists already and is never replaced")
        return made

    @property
    def folder(self) -> Path:
        """Its final place."""
        return self.out / f"{self.release}.silexium"

    @contextmanager
    def staged(self) -> Iterator[None]:
        """A hidden folder for :meth:`write`; what is not published when the block ends is removed."""
        with staging_directory(self.out) as self.staging:
            yield

    def write(self, built: BuiltRelease, tgz: Path, key: PrivateKey) -> None:
        """Write release.toml, the manifest and the author's attestation; raises ``silexium.manifest`` for a channel or
        a license that no manifest can carry."""
        place = ReleaseSet(self._staging, self.release)
        sheet = ReleaseSheet(self.release, self.channel, self.license, self.created_at, f"libreseed:{self.release}")
        src = peek_src(tgz, built.manifest)
        manifest = sheet.manifest(measure_file(tgz), SrcIndex(len(src), Blake3Digest(blake3(src).digest())), {})
        self.attestation = Attestation.build(author_claim(manifest), self.created_at, key)
        place.write(place.sheet, sheet.toml.encode())
        place.write(place.manifest, manifest.data)
        place.write(place.author, self.attestation.data)

    def publish(self) -> None:
        """Give the folder its name, by one rename."""
        publish_directory(self._staging, self.folder)

    def told(self, report: Report, *, published: bool) -> Report:
        """``report`` with what was made."""
        if self.attestation is None:
            raise AssertionError("told before it was written")
        shown = str(self.folder) if published else "(dry run: nothing published)"
        key_id = str(self.attestation.key_id)
        facts = {"path": str(self.folder) if published else None, "attestation": str(self.attestation.digest)}
        text = f"{report.text}\nsilexium   {shown}, attested by {key_id}"
        return Report(text, {**report.data, "silexium": {**facts, "keyId": key_id}})

    @property
    def _staging(self) -> Path:
        if self.staging is None:
            raise AssertionError("used outside its block")
        return self.staging
