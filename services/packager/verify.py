"""``verify``: a release on disk, everything that is there, with what is absent and what was not judged named."""

from __future__ import annotations

import argparse
from pathlib import Path

from libreseed.adapters.command.console import Progress, Report, human_bytes
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.packing.gzip_stream import default_threads
from libreseed.adapters.release.release_folder import ReleaseFiles, VerifiedRelease, verify_release
from libreseed.errors import UsageFault

__all__ = ["verify"]


def verify(arguments: argparse.Namespace) -> Report:
    """Verify FILE.tgz and what lies beside it; raises UsageFault, NotFound, RecordRejected or ContentRejected."""
    path = Path(arguments.file)
    if path.is_dir():
        path = _archive_in(path)
    elif path.exists() and path.suffix != ".tgz":
        raise UsageFault("usage", f"{path} does not end with .tgz: name the archive of the release")
    files = ReleaseFiles.beside(path)
    minimal = None if arguments.minimal is None else Path(arguments.minimal)
    with Progress(quiet=arguments.quiet) as progress:
        verified = verify_release(files, minimal=minimal, threads=default_threads(), watcher=progress)
    return Report(_text(verified), _data(verified))


def _archive_in(folder: Path) -> Path:
    tgz = folder / f"{folder.absolute().name}.tgz"
    if not tgz.exists():
        raise UsageFault("usage", f"{folder} is no release folder: it has no {tgz.name}")
    return tgz


def _data(verified: VerifiedRelease) -> dict[str, object]:
    manifest, minimal = verified.manifest, verified.minimal
    return {
        "release": str(verified.release),
        "pubkey": str(manifest.pubkey),
        "timestamp": manifest.timestamp,
        "contentHash": str(manifest.content_hash),
        "infohash": None if minimal is None else str(minimal.infohash),
        "complete": verified.complete,
        "archiveOnly": minimal is None,
        "verified": [suffix for suffix in verified.present if suffix not in verified.unjudged],
        "absent": list(verified.absent),
        "unjudged": list(verified.unjudged),
        "files": len(manifest.files),
        "contentSize": sum(manifest.sizes.values()),
    }


def _text(verified: VerifiedRelease) -> str:
    manifest = verified.manifest
    judged = [suffix for suffix in verified.present if suffix not in verified.unjudged]
    lines = [
        f"release    {verified.release}",
        f"signed by  {manifest.pubkey} (whether to trust this key is yours to decide)",
        f"content    {counted(len(manifest.files), 'file')}, {human_bytes(sum(manifest.sizes.values()))}",
        f"verified   {' '.join(judged)}",
    ]
    if verified.absent:
        lines.append(f"absent     {' '.join(verified.absent)}")
    if verified.unjudged:
        lines.append(f"not judged {' '.join(verified.unjudged)}")
    if verified.minimal is None:
        lines.append("There is no minimal manifest, so only the archive was checked: it agrees with itself and its")
        lines.append("signatures hold, but nothing says that it is the .tgz that was published under this name.")
    return "\n".join(lines)
