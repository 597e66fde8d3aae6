"""Section 3.2, 3.4: which files of a directory are packaged, and which directories are refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.adapters.packing import tree_hash
from libreseed.adapters.packing.tree import Tree, collect
from libreseed.adapters.packing.tree_walk import WalkRules, walk
from libreseed.errors import ContentRejected, NotFound
from libreseed.package.src_index import parse_src


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "a.txt").write_text("hello")
    (root / "d" / "run").write_text("#!/bin/sh\n")
    (root / "d" / "run").chmod(0o744)
    (root / "d" / "é").write_bytes(b"\x00" * 3000)
    return root


def _paths(tree: Tree) -> list[str]:
    return [file.found.path for file in tree.files]


def _refused(root: Path, reason: str, path: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        collect(root)
    assert (caught.value.reason, caught.value.exit_code) == (reason, 30)
    assert path in caught.value.message


def test_files_sizes_modes_and_hashes(root: Path) -> None:
    tree = collect(root)
    assert _paths(tree) == ["a.txt", "d/run", "d/é"]
    assert tree.executables == ["d/run"]
    contents = {path: (root / path).read_bytes() for path in _paths(tree)}
    assert tree.sizes == {**{path: len(data) for path, data in contents.items()}, "SRC": len(tree.src)}
    contents["SRC"] = tree.src
    assert {path: d.hex for path, d in tree.digests.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in contents.items()
    }
    assert [(line.path, line.blake3.raw) for line in parse_src(tree.src)] == [
        (path, blake3(contents[path]).digest()) for path in _paths(tree)
    ]


def test_only_the_owner_bit_makes_an_executable(root: Path) -> None:
    (root / "a.txt").chmod(0o611)
    assert collect(root).executables == ["d/run"]


def test_empty_folders_are_named(root: Path) -> None:
    (root / "x" / "y").mkdir(parents=True)
    (root / "logs").mkdir()
    (root / "logs" / "one.log").touch()
    (root / ".libreseedignore").write_text("*.log\n")
    tree = collect(root)
    assert tree.empty_folders == ("logs", "x/y")
    assert tree.ignored == ("logs/one.log",)


def test_ignore_rules_are_those_of_gitignore(root: Path) -> None:
    for name in ("build/out.o", "keep.log", "x.log", "d/deep/x.log", "only/here.tmp", "d/only/here.tmp", "dir/x/file"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / ".libreseedignore").write_text("# a comment\n\nbuild/\n*.log\n!keep.log\n/only/*\ndir/*\n!dir/x/\n")
    tree = collect(root)
    assert _paths(tree) == [
        ".libreseedignore",
        "a.txt",
        "d/only/here.tmp",
        "d/run",
        "d/é",
        "dir/x/file",
        "keep.log",
    ]
    assert "build" in tree.ignored


def test_what_is_ignored_is_not_judged(root: Path) -> None:
    (root / "link").symlink_to("a.txt")
    (root / ".git").mkdir()
    (root / "bad\\name").touch()
    (root / ".libreseedignore").write_text(".git\nlink\nbad*\n")
    assert _paths(collect(root)) == [".libreseedignore", "a.txt", "d/run", "d/é"]


def test_lines_of_ignore_rules_end_with_lf_only(root: Path) -> None:
    (root / "x\u2028y").touch()
    (root / "crlf").touch()
    (root / ".libreseedignore").write_bytes("x\u2028y\ncrlf\r\n".encode())
    assert collect(root).ignored == ("crlf", "x\u2028y")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.text(st.sampled_from("ab/*!?[]\\-# ^\t"), max_size=8), max_size=4))
def test_any_ignore_rules_give_a_tree_or_the_declared_error(root: Path, rules: list[str]) -> None:
    (root / ".libreseedignore").write_text("\n".join(rules))
    try:
        assert set(_paths(collect(root))) <= {".libreseedignore", "a.txt", "d/run", "d/é"}
    except ContentRejected as error:
        assert error.reason == "tree.ignore-file"


@pytest.mark.parametrize(
    "rules",
    [b"\xff\n", b"x\n" * 2**20, b"a\\\n", b"[b-a]\n"],
    ids=["not UTF-8", "too large", "escape of nothing", "bad range"],
)
def test_an_ignore_file_that_is_none_is_refused(root: Path, rules: bytes) -> None:
    (root / ".libreseedignore").write_bytes(rules)
    _refused(root, "tree.ignore-file", ".libreseedignore")


def test_a_folder_or_a_pipe_is_no_ignore_file(root: Path) -> None:
    (root / ".libreseedignore").mkdir()
    _refused(root, "tree.ignore-file", ".libreseedignore is not a regular file")
    (root / ".libreseedignore").rmdir()
    os.mkfifo(root / ".libreseedignore")
    _refused(root, "tree.ignore-file", ".libreseedignore is not a regular file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "b.txt").touch(), "'b.txt' appeared"),
        (lambda root: (root / "d" / "new").touch(), "'d/new' appeared"),
        (lambda root: (root / "d" / "run").unlink(), "'d/run' vanished"),
        (lambda root: (root / "d" / "run").chmod(0o644), "'d/run' changed"),
        (lambda root: os.utime(root / "a.txt", ns=(0, 0)), "'a.txt' changed"),
    ],
)
def test_what_no_reading_of_files_sees_is_seen_by_a_second_walk(
    root: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    tree = collect(root)
    tree.check_unchanged(ignoring=tmp_path / "out")
    change(root)
    with pytest.raises(ContentRejected) as caught:
        tree.check_unchanged(ignoring=tmp_path / "out")
    assert (caught.value.reason, caught.value.exit_code) == ("tree.changed", 30)
    assert message in caught.value.message


def test_our_own_output_is_no_change_of_the_tree(root: Path) -> None:
    tree = collect(root)
    (root / "out").mkdir()
    (root / "out" / "package.tgz").touch()
    tree.check_unchanged(ignoring=root / "out")
    (root / "outer").touch()
    with pytest.raises(ContentRejected, match="'outer' appeared"):
        tree.check_unchanged(ignoring=root / "out")


def test_an_ignore_file_behind_a_link_is_refused(root: Path) -> None:
    (root / ".libreseedignore").symlink_to("a.txt")
    _refused(root, "tree.ignore-file", ".libreseedignore")


def test_symlinks_are_refused_even_dangling_and_to_folders(root: Path) -> None:
    for target in ("a.txt", "nowhere", "d", "/etc"):
        (root / "d" / "link").symlink_to(target)
        _refused(root, "tree.symlink", "d/link")
        (root / "d" / "link").unlink()


def test_two_paths_with_one_inode_are_refused_by_both_names(root: Path) -> None:
    (root / "z").hardlink_to(root / "a.txt")
    _refused(root, "tree.hardlink", "'a.txt' and 'z'")


def test_a_link_count_alone_is_no_fault(root: Path) -> None:
    (root.parent / "outside").hardlink_to(root / "a.txt")
    assert "a.txt" in _paths(collect(root))


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(("make", "reason"), [(_fifo, "tree.fifo"), (_socket, "tree.socket")])
def test_what_is_no_file_is_refused(
    root: Path, make: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # a socket's path is at most 107 bytes
    make(Path("odd"))
    _refused(root, reason, "odd")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_devices_are_refused(root: Path, kind: int) -> None:
    try:
        os.mknod(root / "odd", kind | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    _refused(root, "tree.device", "odd")


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "C:drive", "bidi\u202e", "c1\x85"])
def test_illegal_names_are_refused(root: Path, name: str) -> None:
    (root / name).touch()
    _refused(root, "tree.path", "")


def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    (root / os.fsdecode(b"\xff\xfe")).touch()
    _refused(root, "tree.path", "")


def test_too_deep_is_refused(root: Path) -> None:
    deep = root
    for _ in range(64):
        deep = deep / "n"
        deep.mkdir()
    assert collect(root).empty_folders == ("/".join(["n"] * 64),)
    (deep / "file").touch()
    _refused(root, "tree.path-bounds", "n/n")


@pytest.mark.parametrize("name", ["A.TXT", "d/É", "d/e\u0301"])
def test_colliding_names_are_refused(root: Path, name: str) -> None:
    (root / name).touch()
    if len(list(root.rglob("*"))) < 5:
        pytest.skip("this file system does not tell them apart")
    _refused(root, "tree.collision", repr(name))


@pytest.mark.parametrize("name", ["manifest.json", "SRC"])
@pytest.mark.parametrize("kind", ["file", "folder", "ignored file"])
def test_reserved_names_at_the_root_are_refused_by_name(root: Path, name: str, kind: str) -> None:
    if kind == "folder":
        (root / name).mkdir()
    else:
        (root / name).touch()
    if kind == "ignored file":
        (root / ".libreseedignore").write_text(name)
    _refused(root, "tree.reserved", name)


@pytest.mark.parametrize("name", ["Manifest.json", "src"])
def test_names_that_collide_with_what_the_packager_adds_are_refused(root: Path, name: str) -> None:
    (root / name).touch()
    _refused(root, "tree.collision", name)


def test_reserved_names_are_good_below_the_root_and_a_folder_src_too(root: Path) -> None:
    (root / "src").mkdir()
    for name in ("d/manifest.json", "d/SRC", "src/x"):
        (root / name).touch()
    assert {"d/SRC", "d/manifest.json", "src/x"} <= set(_paths(collect(root)))


@pytest.mark.parametrize("name", [".git", "d/.git", ".GIT"])
def test_a_repository_is_refused_unless_told_otherwise(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "HEAD").write_text("ref: x")
    _refused(root, "tree.git", name)
    assert f"{name}/HEAD" in _paths(collect(root, allow_git=True))


def test_a_private_key_is_refused_unless_told_otherwise(root: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MC4CAQAwBQYDK2VwBCIEI" * 3 + "\n"
    (root / "d" / "notes.txt").write_text(pem)
    _refused(root, "tree.secret", "d/notes.txt")
    assert "d/notes.txt" in _paths(collect(root, allow_secrets=True))


def test_too_many_or_too_large_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(limits.FILE_BYTES + 1)  # sparse: takes no room
    _refused(root, "tree.file-size", "huge")
    (root / "huge").unlink()
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES", 5)
    assert len(collect(root).files) == 3
    (root / "fourth").touch()
    _refused(root, "tree.entries", "3")


def test_what_is_no_directory_is_refused(root: Path) -> None:
    with pytest.raises(NotFound) as missing:
        collect(root / "nowhere")
    assert missing.value.exit_code == 10
    _refused(root / "a.txt", "tree.root", "a.txt")


@contextlib.contextmanager
def _unprivileged() -> Iterator[None]:
    """Act as a user whom permissions bind, which they don't for root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", ["secret", "folder"])
def test_what_cannot_be_read_is_refused(name: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # pytest's own directory is closed to other users
        root = Path(temporary)
        root.chmod(0o755)
        (root / "secret").touch()
        (root / "folder").mkdir()
        (root / name).chmod(0)
        with _unprivileged():
            _refused(root, "tree.unreadable", name)
        (root / name).chmod(0o700)
        assert _paths(collect(root)) == ["secret"]


def _grow(target: Path) -> None:
    target.write_text("hello, world")


def _rewrite(target: Path) -> None:
    target.write_text("HELLO")


def _replace(target: Path) -> None:
    (target.parent.parent / "new").write_text("hello")
    (target.parent.parent / "new").rename(target)


def _vanish(target: Path) -> None:
    target.unlink()


def _become_a_link(target: Path) -> None:
    target.unlink()
    target.symlink_to("d/run")


def _become_a_folder(target: Path) -> None:
    target.unlink()
    target.mkdir()


@pytest.mark.parametrize("change", [_grow, _rewrite, _replace, _vanish, _become_a_link, _become_a_folder])
def test_a_file_that_changes_between_walk_and_reading_is_refused(root: Path, change: Callable[[Path], None]) -> None:
    found = walk(root, WalkRules())
    change(root / "a.txt")
    with pytest.raises(ContentRejected) as caught:
        tree_hash.hash_files(root, found.files, allow_secrets=False, threads=2, progress=None)
    assert caught.value.reason == "tree.changed"
    assert "a.txt" in caught.value.message


def test_a_file_that_shrinks_while_it_is_read_is_refused(root: Path) -> None:
    big = root / "big"
    big.write_bytes(bytes(4 * 2**20))

    found = collect(root)
    pieces = []

    def take(piece: memoryview) -> None:
        pieces.append(len(piece))
        os.truncate(big, 100)

    (file,) = [file.found for file in found.files if file.found.path == "big"]
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(ContentRejected) as caught:
            tree_hash.read_file(descriptor, file, lambda: memoryview(bytearray(2**20)), take)
    finally:
        os.close(descriptor)
    assert caught.value.reason == "tree.changed"
    assert pieces == [2**20]


def test_a_file_that_is_rewritten_while_it_is_read_is_refused(root: Path) -> None:
    """Same inode, same size: only its times tell."""
    (file,) = [file.found for file in collect(root).files if file.found.path == "a.txt"]
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(ContentRejected) as caught:
            tree_hash.read_file(
                descriptor, file, lambda: memoryview(bytearray(10)), lambda _: os.utime(root / "a.txt", (9, 9))
            )
    finally:
        os.close(descriptor)
    assert caught.value.reason == "tree.changed"


def test_the_first_fault_in_order_is_reported_whatever_the_threads_do(root: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MC4CAQAwBQYDK2VwBCIEI" * 3 + "\n"
    for number in range(600):
        (root / f"k{number:03}").write_text(pem)
    for _ in range(3):
        with pytest.raises(ContentRejected) as caught:
            collect(root, threads=4)
        assert "'k000'" in caught.value.message


def test_progress_counts_all_bytes_and_can_stop(root: Path) -> None:
    seen: list[int] = []
    tree = collect(root, progress=seen.append)
    assert sum(seen) == sum(file.found.size for file in tree.files)

    class Cancelled(Exception):
        pass

    def stop(_: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        collect(root, progress=stop)
