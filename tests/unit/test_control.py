"""The seeder's control socket: who is answered, and what a hostile or broken client can do (nothing)."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from libreseed import limits, wire
from libreseed.adapters.command import control
from libreseed.adapters.command.control import Request
from libreseed.adapters.command.control_server import ControlServer
from libreseed.errors import LibreSeedError, NotFound


class _Daemon:
    """Answers ``echo``, fails at ``missing``, works for ever at ``hang``."""

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.seen: list[Request] = []

    async def __call__(self, request: Request) -> Mapping[str, Any]:
        self.seen.append(request)
        if request.command == "missing":
            raise NotFound("notfound.release", "nothing here")
        if request.command == "full":
            raise OSError(28, "No space left on device")
        if request.command == "read":
            return {"texts": [os.pread(one, 100, 0).decode() for one in request.descriptors]}
        if request.command == "big":
            return {"x": "y" * (limits.CONTROL_RESPONSE_BYTES // 2)}
        if request.command == "huge":
            return {"x": "y" * limits.CONTROL_RESPONSE_BYTES}
        if request.command == "hang":
            try:
                await trio.sleep_forever()
            finally:
                self.cancelled.set()
        return {"echo": dict(request.arguments)}


@asynccontextmanager
async def _serving(path: Path, group: str | None = None) -> AsyncIterator[_Daemon]:
    daemon = _Daemon()
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(path, daemon, group=group).run)
        yield daemon
        nursery.cancel_scope.cancel()


async def _ask(path: Path, request: Request) -> dict[str, Any]:
    return await trio.to_thread.run_sync(control.call, path, request)


async def _raw(path: Path, data: bytes, *, half_close: bool = False) -> dict[str, Any]:
    """Send ``data`` as it is; returns the one reply."""
    stream = await trio.open_unix_socket(str(path))
    async with stream:
        await stream.send_all(data)
        if half_close:
            await stream.send_eof()
        reply = b""
        while not reply.endswith(b"\n") and (more := await stream.receive_some(65536)):
            reply += more
    return dict(json.loads(reply))


async def test_a_request_is_answered(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        assert await _ask(tmp_path / "s", Request("echo", {"path": "/é"})) == {"echo": {"path": "/é"}}


async def test_a_failure_keeps_its_reason(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("missing", {}))
        assert (caught.value.reason, caught.value.message, caught.value.exit_code) == (
            "notfound.release",
            "nothing here",
            10,
        )


async def test_a_full_disk_in_the_daemon_is_a_storage_failure_at_the_client(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("full", {}))
        assert caught.value.reason == "storage.full"


async def test_open_files_travel_with_the_request_and_are_closed_afterwards(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    before = len(os.listdir("/proc/self/fd"))
    async with _serving(tmp_path / "s") as daemon:
        files = [os.open(path, os.O_RDONLY) for path in paths]
        answer = await _ask(tmp_path / "s", Request("read", {}, tuple(files)))
        assert answer == {"texts": ["a", "b", "c"]}
        for file in files:
            os.close(file)
        (request,) = daemon.seen
        assert len(request.descriptors) == 3 and not set(request.descriptors) & set(files)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_more_open_files_than_a_release_has_are_refused_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    before = len(os.listdir("/proc/self/fd"))
    async with _serving(tmp_path / "s") as daemon:
        with (tmp_path / "a").open() as file:
            for count in (limits.CONTROL_DESCRIPTORS + 1, 200):
                with pytest.raises(LibreSeedError) as caught:
                    await _ask(tmp_path / "s", Request("read", {}, (file.fileno(),) * count))
                assert caught.value.reason == "control.request"
        assert daemon.seen == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_open_files_beside_junk_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def send_junk() -> None:
        with socket.socket(socket.AF_UNIX) as client, open("/dev/null") as file:
            client.connect(str(tmp_path / "s"))
            socket.send_fds(client, [b"junk\n"], [file.fileno()] * 3)
            assert b"control.request" in client.recv(65536)

    async with _serving(tmp_path / "s") as daemon:
        await trio.to_thread.run_sync(send_junk)
        assert daemon.seen == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_answer_too_long_for_the_protocol_is_a_failure_not_a_flood(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s"):
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("huge", {}))
        assert caught.value.reason == "storage.busy"


_GOOD = control.request_line(Request("echo", {}))


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"\x00\xff\xfe\n",
        b"GET / HTTP/1.1\r\n",
        b"[]\n",
        b'{"command":"echo"}\n',
        b'{"arguments":{},"command":"echo","more":1}\n',
        b'{"arguments":{},"arguments":{},"command":"echo"}\n',
        b'{"arguments":{"x":1.5},"command":"echo"}\n',
        b'{"command":"echo","arguments":{}}\n',
        b'{"arguments":[],"command":"echo"}\n',
        b'{"arguments":{},"command":7}\n',
        b"[" * 10_000 + b"\n",
        _GOOD + _GOOD,
        _GOOD + b"x",
        b"x" * (limits.CONTROL_REQUEST_BYTES + 1),
        b"x" * limits.CONTROL_REQUEST_BYTES + b"x\n",
    ],
    ids=lambda data: repr(data[:24]),
)
async def test_junk_is_refused_and_never_reaches_the_handler(tmp_path: Path, data: bytes) -> None:
    async with _serving(tmp_path / "s") as daemon:
        reply = await _raw(tmp_path / "s", data)
        assert reply["failure"]["reason"] == "control.request"
        assert daemon.seen == []
        assert await _ask(tmp_path / "s", Request("echo", {})) == {"echo": {}}


async def test_a_connection_that_ends_within_the_request_is_told_so(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s") as daemon:
        reply = await _raw(tmp_path / "s", _GOOD[:-3], half_close=True)
        assert reply["failure"]["reason"] == "control.request"
        assert daemon.seen == []


async def test_a_client_that_says_nothing_is_dropped(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with _serving(tmp_path / "s") as daemon:
        stream = await trio.open_unix_socket(str(tmp_path / "s"))
        await stream.send_all(b'{"arg')
        reply = await stream.receive_some(65536)
        assert json.loads(reply)["failure"]["reason"] == "control.request"
        assert await stream.receive_some(1) == b""
        assert daemon.seen == []
        assert trio.current_time() >= limits.CONTROL_REQUEST_SECONDS
        await stream.aclose()


async def test_a_client_that_does_not_read_its_answer_is_dropped(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with _serving(tmp_path / "s") as daemon:
        stream = await trio.open_unix_socket(str(tmp_path / "s"))
        await stream.send_all(control.request_line(Request("big", {})))
        await trio.sleep(limits.CONTROL_REPLY_SECONDS + 1)
        received = 0
        while data := await stream.receive_some(2**20):  # what fitted into the socket, and then the end
            received += len(data)
        assert len(daemon.seen) == 1 and received < limits.CONTROL_RESPONSE_BYTES // 2
        await stream.aclose()


async def test_a_client_that_goes_away_cancels_its_command(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s") as daemon:
        stream = await trio.open_unix_socket(str(tmp_path / "s"))
        await stream.send_all(control.request_line(Request("hang", {})))
        while not daemon.seen:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await stream.aclose()
        with trio.fail_after(20):
            await daemon.cancelled.wait()
        assert await _ask(tmp_path / "s", Request("echo", {})) == {"echo": {}}


async def test_a_working_daemon_says_so(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with _serving(tmp_path / "s"):
        stream = await trio.open_unix_socket(str(tmp_path / "s"))
        await stream.send_all(control.request_line(Request("hang", {})))
        assert await stream.receive_some(65536) == control.working_line()
        assert await stream.receive_some(65536) == control.working_line()
        await stream.aclose()


async def test_clients_beyond_the_limit_are_turned_away_and_served_again_later(tmp_path: Path) -> None:
    async with _serving(tmp_path / "s") as daemon:
        streams = []
        for _ in range(limits.CONTROL_CONNECTIONS):
            stream = await trio.open_unix_socket(str(tmp_path / "s"))
            await stream.send_all(control.request_line(Request("hang", {})))
            streams.append(stream)
        while len(daemon.seen) < limits.CONTROL_CONNECTIONS:
            await trio.testing.wait_all_tasks_blocked(0.001)
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("echo", {}))
        assert caught.value.reason == "storage.busy"
        for stream in streams:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await _ask(tmp_path / "s", Request("echo", {})) == {"echo": {}}


async def test_the_socket_is_private_and_disappears_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with _serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_file_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with _serving(path):
        assert await _ask(path, Request("echo", {})) == {"echo": {}}


async def test_another_user_is_refused_by_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libreseed.adapters.command.control_server._owner_uids", lambda: {os.getuid() + 1})
    async with _serving(tmp_path / "s") as daemon:
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("echo", {}))
        assert caught.value.reason == "config.control-forbidden"
        assert daemon.seen == []


async def test_a_member_of_the_named_group_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libreseed.adapters.command.control_server._owner_uids", lambda: {os.getuid() + 1})
    own = grp.getgrgid(os.getgid()).gr_name
    async with _serving(tmp_path / "s", group=own):
        status = (tmp_path / "s").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())
        assert await _ask(tmp_path / "s", Request("echo", {})) == {"echo": {}}


async def test_who_is_not_in_the_named_group_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libreseed.adapters.command.control_server._owner_uids", lambda: {os.getuid() + 1})
    mine = {os.getgid(), *os.getgroups()}
    other = next((group.gr_name for group in grp.getgrall() if group.gr_gid not in mine), None)
    if os.geteuid() != 0 or other is None:
        pytest.skip("only root may give a socket to a group of which it is no member")
    async with _serving(tmp_path / "s", group=other) as daemon:
        with pytest.raises(LibreSeedError) as caught:
            await _ask(tmp_path / "s", Request("echo", {}))
        assert caught.value.reason == "config.control-forbidden" and daemon.seen == []


def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibreSeedError) as caught:
        ControlServer(tmp_path / "s", _Daemon(), group="no-such-group")
    assert caught.value.reason == "config.value" and "no-such-group" in caught.value.message


async def test_a_deep_state_directory_does_not_break_the_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with _serving(deep / "control.sock"):
        assert await _ask(deep / "control.sock", Request("echo", {})) == {"echo": {}}


def test_no_daemon_is_a_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path / "no-such-directory" / "s"):
        with pytest.raises(LibreSeedError) as caught:
            control.call(path, Request("list", {}))
        assert (caught.value.reason, caught.value.exit_code) == ("config.no-daemon", 3)


@pytest.mark.parametrize("answer", [b"", b"junk\n", b"{}\n", b'{"failure":{"message":"x","reason":"made.up"}}\n'])
async def test_a_broken_daemon_is_a_clear_error_at_the_client(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"

    async def broken(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        if answer:
            await stream.send_all(answer)

    await _against(path, broken, {"control.request", "config.no-daemon"})


async def test_a_daemon_that_floods_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTROL_RESPONSE_BYTES", 2**16)

    async def flood(stream: trio.SocketStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * 65536)

    await _against(tmp_path / "s", flood, {"control.request"})


async def _against(path: Path, behave: Callable[[trio.SocketStream], Any], reasons: set[str]) -> None:
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(path))
    listener.listen(1)

    async def serve() -> None:
        connection, _ = await listener.accept()
        async with trio.SocketStream(connection) as stream:
            await behave(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(LibreSeedError) as caught:
            await _ask(path, Request("echo", {}))
        assert caught.value.reason in reasons
    listener.close()


@pytest.mark.parametrize("arguments", [{}, {"path": ""}, {"path": 7}, {"path": ["x"]}])
def test_a_missing_or_mistyped_argument_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(LibreSeedError) as caught:
        Request("add", arguments).text("path")
    assert caught.value.reason == "control.request"


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(LibreSeedError) as caught:
        Request("add", {"path": "/x", "force": True}).only("path")
    assert caught.value.reason == "control.request"


def test_lines_are_canonical_json() -> None:
    for line in (control.working_line(), control.result_line({"b": 1, "a": [True, None]}), _GOOD):
        assert line.endswith(b"\n")
        assert wire.canonical(wire.parse(line[:-1], max_bytes=1000)) == line[:-1]
