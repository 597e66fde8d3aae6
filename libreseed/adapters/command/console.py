"""What all commands share: argument conventions, one result, one top-level ``except``, one progress display.

A command's body takes parsed arguments and returns a :class:`Report`; :func:`run_command` prints it (as JSON with
``--json``) and turns every failure into one clear line, the documented exit code and, with ``--json``, one object
(docs/specification/errors.md). stdout carries the result only; everything else goes to stderr. A traceback is shown
only when ``LIBRESEED_DEBUG=1``. Text that came from outside is made harmless before it reaches the terminal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import libreseed
from libreseed.adapters.command.progress import Progress
from libreseed.adapters.command.terminal import harmless, human_bytes
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import LibreSeedError, LocalFault, UsageFault
from libreseed.reasons import REASONS, Exit

__all__ = [
    "CommandParser",
    "Progress",
    "Report",
    "add_json_flag",
    "add_version_flag",
    "harmless",
    "human_bytes",
    "print_report",
    "run_command",
    "write_stdout",
]


_EXAMPLES = "examples:\n"


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found: ``text`` for a person, ``data`` for ``--json`` (``"ok": true`` is added).

    ``fault`` is for a command that did a part of its work: the first thing that failed. It decides the exit code, and
    its members stand before ``data``, as in every other failure.
    """

    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    fault: LibreSeedError | None = None

    @property
    def exit_code(self) -> int:
        """The process exit code."""
        return Exit.OK if self.fault is None else self.fault.exit_code


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written; a description is filled to the terminal's width, as the flags' help is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(_EXAMPLES):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class CommandParser(argparse.ArgumentParser):
    """argparse with our conventions: examples in ``--help``, no abbreviations, errors as reason ``usage``."""

    def __init__(self, *, prog: str, description: str = "", examples: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"{_EXAMPLES}{examples.rstrip()}" if examples else None,
            formatter_class=_Layout,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UsageFault` instead of printing and exiting, so that ``--json`` holds for usage errors too."""
        raise UsageFault("usage", message)


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_version_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``; at the top of a command only, ``build --version V`` is the release's."""
    parser.add_argument("--version", action="version", version=f"{parser.prog} {libreseed.__version__}")


def run_command(
    body: Callable[[argparse.Namespace], Report | None],
    parser: CommandParser,
    argv: Sequence[str] | None = None,
    *,
    interrupt_on_terminate: bool = False,
) -> int:
    """Parse ``argv`` (``sys.argv[1:]`` when None), run ``body``, print its report; returns the exit code.

    With ``interrupt_on_terminate`` SIGTERM and SIGHUP end the command as Ctrl-C does, with its clean-up (a daemon
    receives its signals itself).
    """
    _stand_in_for_closed_streams()
    code = _run(body, parser, list(sys.argv[1:] if argv is None else argv), interrupt_on_terminate)
    if argv is None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the outcome is told: the interpreter's exit is no work to stop
    return code


def _stand_in_for_closed_streams() -> None:
    """Started with a standard stream closed (``2>&-``), a process would give its number to the first file it opens,
    and a library's message would end up in a package."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process lives


def _run(
    body: Callable[[argparse.Namespace], Report | None],
    parser: CommandParser,
    arguments: Sequence[str],
    interrupt_on_terminate: bool,
) -> int:
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        with _interrupting(interrupt_on_terminate):
            report = body(parser.parse_args(arguments))
        return print_report(report, as_json)
    except SystemExit as leave:  # --help and --version
        return leave.code if isinstance(leave.code, int) else Exit.OK
    except BaseException as error:  # noqa: BLE001  # the one top-level except of every command
        return _fail(parser.prog.partition(" ")[0], error, as_json)


@contextmanager
def _interrupting(wanted: bool) -> Iterator[None]:
    if not wanted or threading.current_thread() is not threading.main_thread():  # handlers are the main thread's
        yield
        return
    mine = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:  # one that nohup had ignored stays ignored
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    """Hand the signal on as Ctrl-C: an event loop has a handler of its own for that, which ends its tasks in order."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    elif not _in_event_loop():
        raise KeyboardInterrupt
    else:  # a shell's background job ignores Ctrl-C, so the loop has no handler, and would break if one just raised
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _in_event_loop() -> bool:
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)  # not imported for this: then there is no loop
    return lowlevel is not None and bool(lowlevel.in_trio_run())


def print_report(report: Report | None, as_json: bool) -> int:
    """Write a result to stdout, flushed; returns its exit code. For a server: where it serves, and it goes on."""
    if report is None:
        return Exit.OK
    if as_json:
        outcome = {"ok": True} if report.fault is None else report.fault.as_json()
        text = json.dumps({**outcome, **report.data}, ensure_ascii=True)
    else:
        text = "\n".join(harmless(line) for line in report.text.splitlines())
    write_stdout(text)
    return report.exit_code


def write_stdout(text: str) -> None:
    """Print and flush; an output that is closed or full is a fault of this machine, not a traceback at exit."""
    if sys.stdout is None:
        raise LocalFault("storage.output", "writing the result: stdout is closed")
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except OSError as error:
        # What could not be written stays in the buffer: the interpreter would try, and complain, once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise LocalFault("storage.output", f"writing the result: {error.strerror}") from error


def _fail(program: str, error: BaseException, as_json: bool) -> int:
    leaf = _deciding(error)
    if os.environ.get("LIBRESEED_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(leaf, LibreSeedError):
        outcome = leaf.as_json()
    else:
        reason = "interrupted" if isinstance(leaf, KeyboardInterrupt) else "bug"
        message = "interrupted" if reason == "interrupted" else f"{type(leaf).__name__}: {leaf}"
        declared = REASONS[reason]
        outcome = {"ok": False, "reason": reason, "exit": declared.exit_code}
        outcome |= {"step": getattr(leaf, "step", None), "message": message}
        outcome["remedy"] = declared.remedy
    print(f"{program}: {harmless(str(outcome['message']))} [{outcome['reason']}]. {outcome['remedy']}", file=sys.stderr)
    for line in leaf.details if isinstance(leaf, LibreSeedError) else ():
        if line != outcome["message"]:  # a single finding is said already
            print(f"  {harmless(line)}", file=sys.stderr)
    if as_json and outcome["reason"] != "storage.output":
        try:
            write_stdout(json.dumps(outcome, ensure_ascii=True))
        except LocalFault:
            return Exit.STORAGE
    return int(str(outcome["exit"]))


def _deciding(error: BaseException) -> BaseException:
    """The one failure that names the outcome, out of a group that nurseries may have raised together.

    A defect comes first, else an interruption, else the first declared fault.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if not isinstance(leaf, (LibreSeedError, KeyboardInterrupt)):
            return leaf
    return next((leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif isinstance(error, OSError):
        yield from_oserror(error)
    else:
        yield error
