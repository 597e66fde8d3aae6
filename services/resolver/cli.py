"""``libreseed-resolve NAME@VERSION``: find, fetch, verify and install one release (DESIGN 4 and 5).

stdout carries the path of the installed package, or one JSON object; everything else is on stderr. What a flag asks for
and this version cannot do is an error with a remedy, never ignored.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from libreseed.adapters.command.console import (
    CommandParser,
    Progress,
    Report,
    add_json_flag,
    add_version_flag,
    harmless,
    run_command,
)
from libreseed.errors import UsageFault

if TYPE_CHECKING:
    from libreseed.adapters.command.settings import Endpoint

    from .flow import Options

__all__ = ["main"]

_EXAMPLES = """\
  libreseed-resolve hello@1.0.0                                 as policy.toml in the configuration folder demands
  libreseed-resolve hello@1.0.0 --policy policy.toml --silexium https://log.example
  libreseed-resolve hello@1.0.0 --policy policy.toml --bundle hello@1.0.0.silexium.json
  libreseed-resolve hello@1.0.0 --no-silexium --publisher ed25519:KEY   this key's word alone, for this run
  libreseed-resolve hello@1.0.0 --out ./vendor --json           into ./vendor/hello@1.0.0, report as JSON
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # A quarter of a cold start would go into collecting what imports make, which is all kept. On again in loading.py.
    gc.disable()
    code = run_command(_resolve, _parser(), argv, interrupt_on_terminate=True)
    if argv is None:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End the process now that the outcome is told and everything is on disk: a libtorrent session that would not end
    is destroyed at the interpreter's exit, and that could block for ever (docs/specification/swarm.md, "Session").
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or not there: told already
            stream.flush()
    os._exit(code)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="libreseed-resolve",
        description="Find, fetch, verify and install one release. Nothing is visible before the last check.",
        examples=_EXAMPLES,
    )
    add_version_flag(parser)
    parser.add_argument("release", metavar="NAME@VERSION", help="the release, for example hello@1.0.0")
    parser.add_argument("--out", type=Path, metavar="DIR", help="install as DIR/NAME@VERSION instead of in the store")
    parser.add_argument("--store", metavar="D", help="the store (default: LIBRESEED_STORE or the user's own)")
    parser.add_argument("--publisher", metavar="KEY", help="trust this publisher key for this run")
    parser.add_argument(
        "--bootstrap", action="append", metavar="H:P", help="a DHT node to start from, or none; may be repeated"
    )
    parser.add_argument("--peer", action="append", default=[], metavar="H:P", help="a BitTorrent peer to use directly")
    parser.add_argument("--mirror", action="append", metavar="URL", help="a mirror to fetch from; may be repeated")
    parser.add_argument(
        "--ca-file", metavar="F", help="trust these certificate authorities (PEM) instead of the system's"
    )
    parser.add_argument(
        "--private-redirects", action="store_true", default=None, help="let mirrors redirect to private addresses"
    )
    parser.add_argument("--bundle", metavar="F", help="the release's Silexium bundle: no server is asked for proofs")
    parser.add_argument(
        "--silexium",
        action="append",
        metavar="URL",
        help="where proofs are: a Silexium server, or a mirror or folder with bundles; may be repeated. A mirrored log "
        "has no bundles: it only proves how the log has grown, beside a server or --bundle",
    )
    parser.add_argument(
        "--policy", metavar="F", help="policy file, TOML or JSON (default: policy.toml in the configuration folder)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="F",
        help="configuration file (default: resolver.toml in the configuration folder)",
    )
    parser.add_argument("--no-silexium", action="store_true", help="go without Silexium's proofs, and say so")
    parser.add_argument("--explain", action="store_true", help="tell every Silexium check on stderr, with its inputs")
    parser.add_argument("--offline", action="store_true", help="use no network: only what is in the store")
    parser.add_argument(
        "--timeout", metavar="S", help="seconds for everything (default: an hour, and the size at 16 KiB/s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json_flag(parser)
    return parser


def _resolve(args: argparse.Namespace) -> Report:
    options = _options(args)

    import trio

    from libreseed.adapters.command.awake_clock import AwakeClock
    from libreseed.resolve.proofs import check_lines

    from .flow import resolve

    with Progress(quiet=args.quiet) as progress:
        outcome = trio.run(resolve, options, progress, clock=AwakeClock())
    if not args.quiet:  # after the last phase is said to be done
        print(harmless(outcome.summary()), file=sys.stderr)
    if args.explain:
        print(*map(harmless, check_lines(outcome.checks)), sep="\n", file=sys.stderr)
    for warning in outcome.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    return outcome.report()


def _options(args: argparse.Namespace) -> Options:
    from libreseed.adapters.resolving.store import store_root
    from libreseed.resolve.request import Request, parse_key, parse_release

    _refuse_unsupported(args)
    settings = _settings(args)
    store = store_root(settings["store"])
    request = Request(
        release=parse_release(args.release),
        publisher=parse_key(args.publisher) if args.publisher is not None else None,
        without_silexium=args.no_silexium,
        offline=args.offline,
        named_store=None if args.store is None and args.config is None else str(store),
    )
    policy = _policy(settings["policy"])
    from .flow import Options
    from .mirror_options import MirrorOptions
    from .proofs import ProofOptions

    return Options(
        request=request,
        policy=policy,
        store=store,
        out=args.out,
        bootstrap=settings["bootstrap"],
        peers=tuple(_peer(peer) for peer in args.peer),
        listen=settings["listen"],
        timeout=settings["timeout"],
        mirrors=MirrorOptions(settings["mirrors"], settings["ca-file"], settings["private-redirects"]),
        proofs=ProofOptions(
            bundle=None if args.bundle is None else Path(args.bundle).expanduser(),
            sources=(*settings["silexium"], *policy.sources, *settings["mirrors"]),
            headers=tuple(map(Path, policy.headers)),
            ca_file=settings["ca-file"],
            explain=args.explain,
        ),
    )


def _peer(text: str) -> Endpoint:
    from libreseed.adapters.command.settings import endpoint

    try:
        return endpoint(text)
    except UsageFault as error:
        raise UsageFault("usage", f"--peer: {error.message}") from error


def _refuse_unsupported(args: argparse.Namespace) -> None:
    if args.no_silexium and (args.bundle is not None or args.silexium):
        raise UsageFault("usage", "--no-silexium goes without proofs: --bundle and --silexium contradict it")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from libreseed.adapters.resolving.resolver_settings import load_resolver_settings

    flags = {name: getattr(args, name) for name in ("store", "bootstrap", "policy", "silexium", "timeout")}
    if flags["bootstrap"] == ["none"]:  # mirrors and --peer alone
        flags["bootstrap"] = []
    flags |= {"mirrors": args.mirror, "ca-file": args.ca_file, "private-redirects": args.private_redirects}
    return load_resolver_settings(args.config, flags)


def _policy(path: Path | None) -> Any:
    from libreseed.adapters.resolving.policy_file import read_policy
    from libreseed.resolve.policy import DEFAULT_POLICY

    return DEFAULT_POLICY if path is None else read_policy(path)


if __name__ == "__main__":
    sys.exit(main())
