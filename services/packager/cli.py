"""The command line of ``libreseed-packager``: arguments in, one report out. docs/specification/commands.md.

Only parsers stand here; what a command does is in the module of its name, imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from libreseed.adapters.command.console import CommandParser, Report, add_json_flag, add_version_flag, run_command

__all__ = ["main"]

_EXAMPLES = """\
  libreseed-packager keygen --out ~/.config/libreseed/key
  libreseed-packager build ./hello --name hello --version 1.0.0 --key ~/.config/libreseed/key --out ./releases
  libreseed-packager verify releases/hello@1.0.0/hello@1.0.0.tgz
  libreseed-packager index hello --key ~/.config/libreseed/key --out releases releases/hello@*/*.minimal.json
  libreseed-packager inspect releases/hello@1.0.0/hello@1.0.0.torrent"""
_AURASEAL_EXAMPLES = """\
  libreseed-packager auraseal build ./components --out diram-1.0.0.zip
  libreseed-packager auraseal verify diram-1.0.0.zip --json
  libreseed-packager auraseal extract diram-1.0.0.zip --out ./restored"""
_PASSFILE = "file (or pipe, /dev/fd/N) that holds the passphrase; LIBRESEED_PASSPHRASE_FILE names one too"
_KEY = "the key file; without it LIBRESEED_KEY, a key file's text or path"
_Commands = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    return run_command(_run, _parser(), argv, interrupt_on_terminate=True)


def _run(arguments: argparse.Namespace) -> Report:
    command: Callable[[argparse.Namespace], Report] = arguments.command()
    return command(arguments)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="libreseed-packager",
        description="Make signed releases out of directories. Nothing here talks to a network.",
        examples=_EXAMPLES,
    )
    add_version_flag(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_keygen, _add_build, _add_verify, _add_inspect, _add_index):
        add_json_flag(add(commands))
    _add_auraseal(commands)
    return parser


def _add_keygen(commands: _Commands[CommandParser]) -> CommandParser:
    parser = commands.add_parser(
        "keygen",
        help="make a new key",
        description="Make a new Ed25519 key. The file gets mode 0600 and never replaces another; "
        "the public key is printed. Without a flag the passphrase is asked for.",
        examples="  libreseed-packager keygen --out key\n  libreseed-packager keygen --out ci.key --no-passphrase",
    )
    parser.add_argument("--out", required=True, metavar="KEY", help="the file to create")
    passphrase = parser.add_mutually_exclusive_group()
    passphrase.add_argument("--passphrase-file", metavar="F", help=_PASSFILE)
    passphrase.add_argument("--no-passphrase", action="store_true", help="store the key unencrypted (for CI)")
    parser.set_defaults(command=_keygen)
    return parser


def _add_build(commands: _Commands[CommandParser]) -> CommandParser:
    parser = commands.add_parser(
        "build",
        help="make a signed release of a directory",
        description="Make all files of a release in OUT/NAME@VERSION, which appears by one rename or not at all. "
        "A .libreseedignore in DIR (gitignore syntax) leaves files out.",
        examples="  libreseed-packager build . --name hello --version 1.0.0 --key key --out releases --license MIT\n"
        '  SOURCE_DATE_EPOCH=1700000000 LIBRESEED_KEY="$(cat ci.key)" \\\n'
        "    libreseed-packager build . --name hello --version 1.0.0 --out releases --json",
    )
    parser.add_argument("dir", metavar="DIR", help="the tree to package")
    parser.add_argument("--name", required=True, help="package name, [a-z0-9][a-z0-9._-]{0,63}")
    parser.add_argument("--version", required=True, help="SemVer 2.0.0 version")
    parser.add_argument("--out", required=True, metavar="OUT", help="where the folder NAME@VERSION goes; may exist")
    parser.add_argument("--key", metavar="KEY", help=_KEY)
    parser.add_argument("--passphrase-file", metavar="F", help=_PASSFILE)
    parser.add_argument(
        "--timestamp", metavar="MS", help="milliseconds since 1970; SOURCE_DATE_EPOCH outranks it; default: now"
    )
    for text in ("description", "author", "license", "homepage", "repository"):
        parser.add_argument(f"--{text}", metavar="TEXT", help=f"{text}, for the manifest")
    parser.add_argument(
        "--dependency", action="append", default=[], metavar="NAME=RANGE", help="a dependency; may be repeated"
    )
    parser.add_argument(
        "--silexium",
        action="store_true",
        help="also write OUT/NAME@VERSION.silexium, signed as its author: what libreseed-silexium ingest takes",
    )
    parser.add_argument("--channel", metavar="C", help="with --silexium: the release's channel (default: stable)")
    parser.add_argument("--dry-run", action="store_true", help="do everything except publishing the folder")
    parser.add_argument("--allow-secrets", action="store_true", help="package files that look like private keys")
    parser.add_argument("--allow-git", action="store_true", help="package .git directories")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(command=_build)
    return parser


def _add_verify(commands: _Commands[CommandParser]) -> CommandParser:
    parser = commands.add_parser(
        "verify",
        help="check a release",
        description="Check FILE.tgz and everything of the release that lies beside it under its name. "
        "Without a minimal manifest only the archive is checked. Whom to trust is not decided here.",
        examples="  libreseed-packager verify releases/hello@1.0.0/hello@1.0.0.tgz --json",
    )
    parser.add_argument("file", metavar="FILE.tgz", help="the archive of the release, or its folder NAME@VERSION")
    parser.add_argument("--minimal", metavar="M", help="the minimal manifest, when it does not lie beside FILE.tgz")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.set_defaults(command=_verify)
    return parser


def _add_inspect(commands: _Commands[CommandParser]) -> CommandParser:
    parser = commands.add_parser(
        "inspect",
        help="show what a file says",
        description="Show what any of our files says: .tgz, manifest.json, .minimal.json, .dht.json, .index.dht.json, "
        ".chunks, .parity, .torrent, Silexium's .silexium.json, .release.json, .author.json, .tests.json and "
        ".server.json, a DIRAM package (.zip), a part file (.part.N), integrity-manifest.json, or a key file's public "
        "half. What was not verified is marked so.",
        examples="  libreseed-packager inspect hello@1.0.0.minimal.json\n  libreseed-packager inspect key --json",
    )
    parser.add_argument("file", metavar="FILE", help="the file; what lies beside it is used to verify it")
    parser.add_argument(
        "--publisher", metavar="KEY", help="public key that a release index or an attestation must be signed by"
    )
    parser.set_defaults(command=_inspect)
    return parser


def _add_index(commands: _Commands[CommandParser]) -> CommandParser:
    parser = commands.add_parser(
        "index",
        help="sign the list of a package's releases",
        description="Write NAME.index.dht.json: the signed list of these releases, newest first, as many as fit.",
        examples="  libreseed-packager index hello --key key --out releases releases/hello@*/*.minimal.json",
    )
    parser.add_argument("name", metavar="NAME", help="the package's name")
    parser.add_argument("minimals", metavar="MINIMAL", nargs="+", help="minimal manifests of its releases")
    parser.add_argument("--key", metavar="KEY", help=_KEY)
    parser.add_argument("--passphrase-file", metavar="F", help=_PASSFILE)
    parser.add_argument("--out", metavar="DIR", default=".", help="where the file goes (default: the current folder)")
    parser.set_defaults(command=_index)
    return parser


def _add_auraseal(commands: _Commands[CommandParser]) -> None:
    parser = commands.add_parser(
        "auraseal",
        help="DIRAM packages: components that heal themselves",
        description="Make, verify and extract DIRAM packages: one zip of components in five divisions, cut into parts "
        "with parity, so that a component comes back whole although some of its parts are damaged or missing.",
        examples=_AURASEAL_EXAMPLES,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for add in (_add_auraseal_build, _add_auraseal_verify, _add_auraseal_extract):
        action = add(actions)
        action.add_argument("--quiet", action="store_true", help="no progress on stderr")
        add_json_flag(action)


def _add_auraseal_build(actions: _Commands[CommandParser]) -> CommandParser:
    build = actions.add_parser(
        "build",
        help="make a package of a folder of components",
        description="Make FILE of DIR, which holds nothing but components: root/obinexus/src/diram-component-N.bin, "
        "services/diram-service-N.bin, operations/diram-operation-N.bin, divisions/diram-division-N.bin and "
        "country/diram-country-N.bin, N from 0 to 255. FILE appears whole or not at all.",
        examples="  libreseed-packager auraseal build ./components --out diram-1.0.0.zip",
    )
    build.add_argument("dir", metavar="DIR", help="the folder with the components")
    build.add_argument("--out", required=True, metavar="FILE", help="the package to create")
    build.add_argument("--no-parts", action="store_true", help="keep components whole, without parity: smaller")
    build.add_argument("--allow-secrets", action="store_true", help="package components that look like private keys")
    build.set_defaults(command=_auraseal_build)
    return build


def _add_auraseal_verify(actions: _Commands[CommandParser]) -> CommandParser:
    verify = actions.add_parser(
        "verify",
        help="check a package",
        description="Judge every component of FILE. What is damaged but heals is no failure, and is named.",
        examples="  libreseed-packager auraseal verify diram-1.0.0.zip --json",
    )
    verify.add_argument("file", metavar="FILE", help="the package")
    verify.set_defaults(command=_auraseal_verify)
    return verify


def _add_auraseal_extract(actions: _Commands[CommandParser]) -> CommandParser:
    extract = actions.add_parser(
        "extract",
        help="take the components out of a package",
        description="Write every component of FILE below DIR, healed and verified. If one of them does not heal, "
        "nothing is written.",
        examples="  libreseed-packager auraseal extract diram-1.0.0.zip --out ./restored",
    )
    extract.add_argument("file", metavar="FILE", help="the package")
    extract.add_argument("--out", required=True, metavar="DIR", help="the folder to create")
    extract.set_defaults(command=_auraseal_extract)
    return extract


# Each command's module is imported when it runs: --help and a usage error need none of them.


def _keygen() -> Callable[[argparse.Namespace], Report]:
    from .keygen import keygen

    return keygen


def _build() -> Callable[[argparse.Namespace], Report]:
    from .build import build

    return build


def _verify() -> Callable[[argparse.Namespace], Report]:
    from .verify import verify

    return verify


def _inspect() -> Callable[[argparse.Namespace], Report]:
    from .inspect import inspect

    return inspect


def _index() -> Callable[[argparse.Namespace], Report]:
    from .index import index

    return index


def _auraseal_build() -> Callable[[argparse.Namespace], Report]:
    from .auraseal import build

    return build


def _auraseal_verify() -> Callable[[argparse.Namespace], Report]:
    from .auraseal import verify

    return verify


def _auraseal_extract() -> Callable[[argparse.Namespace], Report]:
    from .auraseal import extract

    return extract
