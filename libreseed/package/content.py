"""contentHash: one hash over the hashes of all files (seed, section 8; DESIGN 3.2).

The paths decide only the order, they are not in the preimage; what binds them is the manifest's own signature.
Specification: ``package.md``, 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from libreseed.ids import Sha256Digest
from libreseed.package.paths import path_key

__all__ = ["content_hash"]


def content_hash(files: Mapping[str, Sha256Digest]) -> Sha256Digest:
    """SHA-256 of the texts ``sha256:<hex>`` of ``files`` (path -> digest), joined in the order of the paths' bytes."""
    joined = "".join(str(files[path]) for path in sorted(files, key=path_key))
    return Sha256Digest(hashlib.sha256(joined.encode("ascii")).digest())
