"""The one runner of all commands: exit codes, one clear line, one JSON object, nothing harmful on the terminal."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
from functools import partial

import pytest

from libreseed.adapters.command.console import (
    CommandParser,
    Progress,
    Report,
    add_json_flag,
    add_version_flag,
    harmless,
    human_bytes,
    run_command,
)
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.errors import ContentRejected, NotFound

MISSING = {"ok": False, "reason": "notfound.file", "exit": 10, "step": None, "remedy": "Check the path."}


def _parser() -> CommandParser:
    parser = CommandParser(prog="libreseed-test", description="Tests.", examples="  libreseed-test --json")
    add_version_flag(parser)
    add_json_flag(parser)
    parser.add_argument("--number", type=int)
    return parser


def _run(body: object, *argv: str) -> int:
    return run_command(body, _parser(), argv)  # type: ignore[arg-type]  # bodies that only raise


def _raising(error: BaseException) -> object:
    def body(_: argparse.Namespace) -> Report:
        raise error

    return body


def test_a_report_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: argparse.Namespace) -> Report:
        return Report("two\nlines", {"answer": 42})

    assert _run(body) == 0
    assert capsys.readouterr() == ("two\nlines\n", "")
    assert _run(body, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"ok": True, "answer": 42}
    assert err == ""


def test_a_report_of_a_part_of_the_work_has_a_failures_members_and_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: argparse.Namespace) -> Report:
        return Report("added one", {"added": ["a"], "refused": {"b": "gone"}}, NotFound("notfound.file", "b: gone"))

    assert _run(body) == 10
    assert capsys.readouterr() == ("added one\n", "")
    assert _run(body, "--json") == 10
    told = json.loads(capsys.readouterr().out)
    assert told == MISSING | {"message": "b: gone", "added": ["a"], "refused": {"b": "gone"}}


def test_a_declared_fault_is_one_line_and_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    body = _raising(NotFound("notfound.file", "no such file: x"))
    assert _run(body) == 10
    assert capsys.readouterr() == ("", "libreseed-test: no such file: x [notfound.file]. Check the path.\n")
    assert _run(body, "--json") == 10
    assert json.loads(capsys.readouterr().out) == MISSING | {"message": "no such file: x"}


def test_usage_errors_obey_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_raising(AssertionError()), "--number", "x", "--json") == 2
    assert json.loads(capsys.readouterr().out)["reason"] == "usage"
    assert _run(_raising(AssertionError()), "--unknown") == 2
    assert _run(_raising(AssertionError()), "--num", "1") == 2, "abbreviations are not accepted"


def test_help_has_examples_and_version_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_raising(AssertionError()), "--help") == 0
    assert "examples:\n  libreseed-test --json" in capsys.readouterr().out
    assert _run(_raising(AssertionError()), "--version") == 0
    assert capsys.readouterr().out.startswith("libreseed-test 0.")


def test_a_long_description_fits_the_terminal_and_examples_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    example = "  libreseed-test " + "--number 12345 " * 8
    parser = CommandParser(prog="libreseed-test", description="Many words. " * 40, examples=example)
    shown = parser.format_help().splitlines()
    assert shown.count(example.rstrip()) == 1
    assert max(len(line) for line in shown if line != example.rstrip()) <= 80
    assert " ".join(shown).count("Many words.") == 40


def test_a_defect_is_exit_1_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIBRESEED_DEBUG", raising=False)
    assert _run(_raising(ZeroDivisionError("by zero"))) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "ZeroDivisionError: by zero [bug]" in err
    monkeypatch.setenv("LIBRESEED_DEBUG", "1")
    assert _run(_raising(ZeroDivisionError("by zero"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_raising(KeyboardInterrupt()), "--json") == 130
    assert json.loads(capsys.readouterr().out)["reason"] == "interrupted"


@pytest.mark.parametrize(
    ("leaves", "code"),
    [
        ([NotFound("notfound.file", "a")], 10),
        ([NotFound("notfound.file", "a"), KeyboardInterrupt()], 130),
        ([NotFound("notfound.file", "a"), KeyboardInterrupt(), ValueError("defect")], 1),
        ([OSError(errno.ENOSPC, "full"), NotFound("notfound.file", "a")], 50),
    ],
)
def test_what_nurseries_raise_together_has_one_outcome(leaves: list[BaseException], code: int) -> None:
    assert _run(_raising(BaseExceptionGroup("", [BaseExceptionGroup("", leaves)]))) == code


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (errno.ENOSPC, "storage.full", 50),
        (errno.EDQUOT, "storage.full", 50),
        (errno.EFBIG, "storage.full", 50),
        (errno.EROFS, "storage.read-only", 50),
        (errno.EACCES, "storage.permission", 50),
        (errno.EMFILE, "storage.open-files", 50),
        (errno.EIO, "storage.io", 50),
        (errno.EEXIST, "storage.exists", 50),
        (errno.ENOENT, "notfound.file", 10),
        (errno.EADDRINUSE, "config.port", 3),
    ],
)
def test_an_oserror_is_translated(code: int, reason: str, exit_code: int) -> None:
    error = from_oserror(OSError(code, os.strerror(code), "some/path"), "reading")
    assert (error.reason, error.exit_code) == (reason, exit_code)
    assert error.message == f"reading: some/path: {os.strerror(code)}"
    assert _run(_raising(OSError(code, os.strerror(code), "some/path"))) == exit_code


def test_hostile_text_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2Jb\nc\u202ed\x9b"
    assert harmless(hostile) == "a\\x1b[2Jb\\nc\\u202ed\\x9b"
    assert _run(_raising(ContentRejected("archive.path", hostile))) == 30
    assert capsys.readouterr().err.count("\n") == 1
    assert _run(lambda _: Report(f"fine {hostile}")) == 0
    assert "\x1b" not in capsys.readouterr().out


def _module(*arguments: str, **options: object) -> subprocess.Popen[str]:
    program = (
        "import sys, time\n"
        "from libreseed.adapters.command.console import CommandParser, Report, run_command\n"
        "def body(arguments):\n"
        "    if arguments.wait:\n"
        "        print('ready', file=sys.stderr, flush=True); time.sleep(600)\n"
        "    if arguments.loop:\n"
        "        import trio\n"
        "        async def loop():\n"
        "            try:\n"
        "                print('ready', file=sys.stderr, flush=True)\n"
        "                await trio.sleep_forever()\n"
        "            finally:\n"
        "                print('cleaned up', file=sys.stderr, flush=True)\n"
        "        trio.run(loop)\n"
        "    return Report('x' * 10)\n"
        "parser = CommandParser(prog='p')\n"
        "parser.add_argument('--wait', action='store_true')\n"
        "parser.add_argument('--loop', action='store_true')\n"
        "sys.exit(run_command(body, parser, interrupt_on_terminate=True))\n"
    )
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]  # Popen's overloads


def test_a_full_stdout_is_a_storage_fault_and_no_traceback() -> None:
    with open("/dev/full", "w") as full, _module(stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 50
    assert "[storage.output]" in err
    assert err.count("\n") == 1


def test_a_closed_stdout_is_a_storage_fault_and_a_closed_stderr_none() -> None:
    with _module(stdout=subprocess.DEVNULL, preexec_fn=lambda: os.close(1)) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 50
    assert "[storage.output]" in err
    with _module(stdout=subprocess.PIPE, preexec_fn=lambda: (os.close(0), os.close(2))) as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "x" * 10 + "\n")


def _ended_by(number: signal.Signals, *arguments: str, **options: object) -> tuple[int, str]:
    """The exit code and what stood on stderr after the signal."""
    with _module(*arguments, stdout=subprocess.DEVNULL, **options) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_with_130(number: signal.Signals) -> None:
    code, err = _ended_by(number, "--wait")
    assert (code, err.count("\n")) == (130, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_an_event_loop_in_order(number: signal.Signals) -> None:
    code, err = _ended_by(number, "--loop")
    assert (code, err.splitlines()[0], err.count("\n")) == (130, "cleaned up", 2)


@pytest.mark.parametrize(("flag", "code"), [("--wait", 130), ("--loop", -signal.SIGTERM)])
def test_what_ignores_ctrl_c_is_still_ended_by_sigterm(flag: str, code: int) -> None:
    """A shell's background job; an event loop that has no handler for Ctrl-C is not broken into."""
    ignoring = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    found, err = _ended_by(signal.SIGTERM, flag, preexec_fn=ignoring)
    assert found == code
    assert "Traceback" not in err and "[bug]" not in err


def test_what_nohup_started_outlives_its_terminal() -> None:
    ignoring = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    with _module("--loop", stdout=subprocess.DEVNULL, preexec_fn=ignoring) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (counted(1, "release"), "1 release"),
        (counted(0, "release"), "0 releases"),
        (counted(2, "entry", "entries"), "2 entries"),
        (counted(1, "entry", "entries"), "1 entry"),
    ],
)
def test_one_is_not_a_plural(said: str, expected: str) -> None:
    assert said == expected


def test_progress_in_plain_lines() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress.phase("packing", 2000)
        progress.advance(500)
        progress.note("an empty folder is left out: a\x1b")
        progress.advance(1500)
        progress.phase("signing")
    assert stream.getvalue().splitlines() == [
        "an empty folder is left out: a\\x1b",
        "packing: 2.0 kB, done",
        "signing: done",
    ]


def test_quiet_progress_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(quiet=True, stream=stream) as progress:
        progress.phase("packing", 2000)
        progress.update(500, detail="3 peers")
        progress.note("hello")
    assert stream.getvalue() == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_is_a_bar_and_never_fails() -> None:
    stream = _Terminal()
    with Progress(stream=stream) as progress:
        progress.phase("[red]packing[/]", 2000)
        progress.update(500, detail="3 peers [bold]")
        progress.note("[not markup]")
        progress.phase("repairing")
        progress.advance(10)
    assert "[red]packing[/]" in stream.getvalue()
    assert "[not markup]" in stream.getvalue()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (5120, "5.1 kB"), (10**9, "1.0 GB"), (2**50, "1125.9 TB")]
)
def test_amounts_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_text_that_the_output_cannot_hold_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding="ascii"))
    assert _run(lambda _: Report("Grüße")) == 0
    assert output.getvalue() == b"Gr\\xfc\\xdfe\n"


def test_a_command_may_run_in_another_thread() -> None:
    codes: list[int] = []

    def work() -> None:
        codes.append(run_command(lambda _: None, _parser(), [], interrupt_on_terminate=True))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [0]
