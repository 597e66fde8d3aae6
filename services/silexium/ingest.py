"""``ingest``: verify a release folder, attest it as the server, and stage it for the log. silexium-api.md, 2."""

from __future__ import annotations

import argparse
from pathlib import Path

from libreseed.adapters.command.console import Report

from .commands import Commands
from .site import add_site_flags, load_site

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Register ``ingest``."""
    parser = commands.add_parser(
        "ingest",
        help="take a release in",
        description="Verify everything about a release, attest it with the server's key and stage it. The server that "
        "runs on the same database gets its stamps and logs it; nothing is served before that. Taking the same release "
        "in again changes nothing; a version with other content is refused for good.",
        examples="  libreseed-silexium ingest releases/hello@1.0.0.silexium\n"
        "  libreseed-silexium ingest --config /etc/libreseed/silexium.toml upload/release.toml --json",
    )
    parser.add_argument("release", metavar="RELEASE", help="a release.toml, or the folder NAME@VERSION.silexium")
    add_site_flags(parser)
    parser.set_defaults(handler=_ingest)


def _ingest(arguments: argparse.Namespace) -> Report:
    from libreseed.adapters.silexium.releases.admission import Admission
    from libreseed.adapters.silexium.releases.release_set import read_release_sheet
    from libreseed.ids import Blake3Digest
    from libreseed.silexium.release_manifest import ReleaseManifest

    from .office import open_office, wall_clock
    from .wake import wake_server

    site = load_site(arguments)
    place, sheet = read_release_sheet(Path(arguments.release))
    with open_office(site) as office:
        admission = Admission(office.catalogue, office.policy(), site.unlock("server-key"))
        taken = admission.admit(place, sheet, wall_clock())
    awake = wake_server(site.database)
    manifest: Blake3Digest = ReleaseManifest(taken.manifest).digest
    data = {
        "release": str(taken.release),
        "state": str(taken.state),
        "manifest": str(manifest),
        "log_index": taken.log_index,
        "server_running": awake,
    }
    return Report(f"{taken.release}\nstate     {taken.state}\nmanifest  {manifest}", data)
