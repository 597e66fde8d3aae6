"""What a Silexium server demands before it takes a release in, and its own attestation (``ingest``).

In this order, each with the reason of its check: the .tgz verifies as a resolver would verify it; the release manifest
is exactly what release.toml and the files give; the author's and the tests' attestations hold, by keys that the server
trusts for this package, in force now (checks 10.1 to 10.3, with the resolver's own code). Then the server attests all
of it with its key (10.4), and the catalogue stages the release in one transaction. Everything blocks. Specification:
``silexium-api.md``, 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.silexium.releases.catalogue import Catalogue, Progress
from libreseed.adapters.silexium.releases.release_set import ReleaseSet, measure_source
from libreseed.errors import ProofRejected
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.attestation import Attestation, server_claim
from libreseed.silexium.instants import format_instant
from libreseed.silexium.keyring import require_standing
from libreseed.silexium.release_manifest import ReleaseManifest, parse_release_manifest
from libreseed.silexium.release_sheet import ReleaseSheet
from libreseed.silexium.trust_policy import SilexiumPolicy
from libreseed.silexium.verification import ReleaseVerification

__all__ = ["Admission"]


@dataclass(frozen=True, slots=True)
class Admission:
    """Takes releases into ``catalogue`` under the server's own ``policy``, and attests them with its ``key``."""

    catalogue: Catalogue
    policy: SilexiumPolicy
    key: PrivateKey = field(repr=False)

    def admit(self, place: ReleaseSet, sheet: ReleaseSheet, now: int) -> Progress:
        """Verify the set, attest it and stage it at ``now`` (Unix seconds); the same set again is where it was.

        Raises ``silexium.*`` for the first thing that does not hold, ContentRejected for the .tgz, NotFound for a
        missing file.
        """
        manifest = _read_manifest(place, sheet)
        checks = ReleaseVerification(self.policy, place.release, now=now)
        checks.manifest(manifest.data)
        checks.author(place.read_attestation("author"))
        author, tests = checks.tests(place.read_attestation("tests")).attestations
        for attestation in (author, tests):
            self._require_present(attestation, now)
        server = Attestation.build(
            server_claim(manifest, author, tests), max(now, author.created_at, tests.created_at), self.key
        )
        return self.catalogue.stage(manifest, checks.server(server.data).attestations, now)

    def _require_present(self, attestation: Attestation, now: int) -> None:
        """Refuse what no stamp of today could save: a claim from the future, a key that is out of force by now."""
        if attestation.created_at > now + limits.CLOCK_SKEW_SECONDS:
            message = f"the {attestation.role} attestation is from the future: {format_instant(attestation.created_at)}"
            raise ProofRejected("silexium.future", message)
        key = self.policy.keys.find(attestation.key_id)
        require_standing(key, created_at=attestation.created_at, stamped_at=now, anchored_at=now)


def _read_manifest(place: ReleaseSet, sheet: ReleaseSheet) -> ReleaseManifest:
    """The manifest in the set, which is exactly what the sheet and the files give."""
    given = parse_release_manifest(read_bounded(place.manifest, limits.RELEASE_MANIFEST_BYTES))
    found = place.build_manifest(sheet, measure_source(place.find_tgz()))
    if given == found:
        return given
    evidence = {"expected": str(found.digest), "actual": str(given.digest)}
    if given.release != found.release:
        raise ProofRejected("silexium.release", f"the manifest is of {given.release}, not of {found.release}")
    if given.artifacts != found.artifacts:
        message = "the files are not the artifacts that the manifest names"
        raise ProofRejected("silexium.artifact", message, evidence=evidence)
    if given.src_index != found.src_index:
        message = "the manifest names another SRC than the .tgz holds"
        raise ProofRejected("silexium.src", message, evidence=evidence)
    raise ProofRejected("silexium.release-sheet", "the manifest and release.toml differ", evidence=evidence)
