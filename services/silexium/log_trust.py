"""Which log a mirror or a witness goes by: ``--log ORIGIN KEY``, or the logs of a policy file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import CommandParser
from libreseed.errors import Malformed, UsageFault

if TYPE_CHECKING:
    from libreseed.silexium.trust_policy import TrustedLog

__all__ = ["add_log_flags", "named_logs"]


def add_log_flags(parser: CommandParser) -> None:
    """``--log`` and ``--policy``."""
    parser.add_argument(
        "--log", nargs=2, action="append", default=[], metavar=("ORIGIN", "KEY"), help="a log's name and public key"
    )
    parser.add_argument(
        "--policy", metavar="F", help="a policy file: its logs, and the witnesses that it demands, count"
    )


def named_logs(arguments: argparse.Namespace) -> tuple[TrustedLog, ...]:
    """The logs that the flags name, at least one; raises :class:`UsageFault`."""
    from libreseed.ids import PublicKey
    from libreseed.silexium.tree_head import NamedKey
    from libreseed.silexium.trust_policy import TrustedLog

    try:
        logs = [TrustedLog(NamedKey(origin, PublicKey.parse(key))) for origin, key in arguments.log]
    except Malformed as error:
        raise UsageFault("usage", f"--log: {error.message}") from error
    if arguments.policy is not None:
        logs += _policy_logs(Path(arguments.policy))
    names = [log.identity.name for log in logs]
    if not logs or len(set(names)) != len(names):
        raise UsageFault("usage", "name every log once, with --log ORIGIN KEY or --policy F")
    return tuple(logs)


def _policy_logs(path: Path) -> tuple[TrustedLog, ...]:
    from libreseed.adapters.resolving.policy_file import read_policy

    policy = read_policy(path).silexium
    if policy is None:
        raise UsageFault("config.policy", f"{path} trusts no Silexium log")
    return policy.logs
