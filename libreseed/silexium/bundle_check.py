"""A bundle through checks 10.1 to 10.11: the proofs of a release, verified without a network.

10.11 is about the log's history: whoever must first fetch a proof of growth takes 10.1 to 10.10 alone, and calls
:meth:`ReleaseVerification.history` himself. Only the order of the calls is here; every verdict is
:class:`ReleaseVerification`'s. Specification: ``silexium.md``, 7.
"""

from __future__ import annotations

from collections.abc import Sequence

from libreseed.ids import Blake3Digest
from libreseed.silexium.bitcoin_headers import HeaderSource
from libreseed.silexium.bundle import Bundle
from libreseed.silexium.log_memory import ConsistencyProof, LogMemory
from libreseed.silexium.verification import ReleaseVerification, TrustedRelease

__all__ = ["verify_bundle", "verify_documents"]


def verify_bundle(
    verification: ReleaseVerification,
    bundle: Bundle,
    *,
    chains: Sequence[HeaderSource] = (),
    memory: LogMemory | None = None,
    proof: ConsistencyProof | None = None,
    known_entry: Blake3Digest | None = None,
) -> TrustedRelease:
    """Checks 10.1 to 10.11 with a bundle's parts; the .tgz and SRC remain. Raises at the first that refuses."""
    verify_documents(verification, bundle, chains)
    return verification.history(memory, proof, known_entry)


def verify_documents(
    verification: ReleaseVerification, bundle: Bundle, chains: Sequence[HeaderSource] = ()
) -> TrustedRelease:
    """Checks 10.1 to 10.10: all that a bundle can show by itself. Raises at the first that refuses."""
    verification.manifest(bundle.manifest)
    for check, data in zip(
        (verification.author, verification.tests, verification.server), bundle.attestations, strict=True
    ):
        check(data)
    verification.time_stamps(bundle.stamps)
    verification.bitcoin(chains, bundle.headers)
    verification.times()
    verification.entry(bundle.entry)
    verification.head(bundle.sth, bundle.cosignatures)
    return verification.inclusion(bundle.inclusion)
