"""Section 3.4: the gzip form, written by any number of threads, read strictly."""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zlib_ng import zlib_ng

from libreseed import limits
from libreseed.adapters.packing.gzip_stream import OUTPUT_BYTES, GzipReader, GzipWriter, zlib_ng_version
from libreseed.errors import ContentRejected
from tests.archive_forge import GZIP_HEADER, gz
from tests.tools import require_program

_BLOCK = limits.DEFLATE_BLOCK_BYTES


def _write(data: bytes, threads: int, cuts: list[int] | None = None) -> bytes:
    parts: list[bytes] = []
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    with GzipWriter(parts.append, threads) as writer:
        for start, end in pairwise(bounds):
            writer.write(data[start:end])
        assert writer.close() == hashlib.sha256(data).digest()
    assert (writer.plain_size, writer.size) == (len(data), sum(map(len, parts)))
    return b"".join(parts)


def _read(tgz: bytes, cuts: list[int] | None = None) -> bytes | str:
    reader = GzipReader()
    out = b""
    bounds = [0, *sorted(cut % (len(tgz) + 1) for cut in cuts or []), len(tgz)]
    try:
        for start, end in pairwise(bounds):
            for piece in reader.feed(tgz[start:end]):
                assert 0 < len(piece) <= OUTPUT_BYTES
                out += piece
        reader.finish()
    except ContentRejected as error:
        return error.reason
    return out


def _text(size: int) -> bytes:
    """Half noise, half words: compresses about as a program does."""
    source = random.Random(size)
    words = [source.randbytes(source.randrange(3, 9)) for _ in range(500)]
    return b"".join(source.choice(words) for _ in range(size // 5))[:size].ljust(size, b".")


@pytest.mark.parametrize("size", [0, 1, _BLOCK - 1, _BLOCK, _BLOCK + 1, 3 * _BLOCK + 777])
def test_bytes_do_not_depend_on_threads_or_on_how_they_were_written(size: int) -> None:
    data = _text(size)
    tgz = _write(data, 1)
    assert _write(data, 4) == tgz
    assert _write(data, 3, [7, size // 2, size - 1]) == tgz
    assert tgz.startswith(GZIP_HEADER)
    assert _read(tgz) == data
    assert gzip.decompress(tgz) == data


def _by_hand(data: bytes) -> bytes:
    """The form of archive.md, section 1, step by step."""
    body, window = b"", b""
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        flush = zlib_ng.Z_FINISH if start + _BLOCK >= len(data) else zlib_ng.Z_SYNC_FLUSH
        if window:
            deflater = zlib_ng.compressobj(6, zlib_ng.DEFLATED, -15, zdict=window)
        else:
            deflater = zlib_ng.compressobj(6, zlib_ng.DEFLATED, -15)
        body += deflater.compress(block) + deflater.flush(flush)
        window = block[-32768:]
    return GZIP_HEADER + body + zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")


def test_the_stream_is_raw_deflate_of_fixed_blocks_as_specified() -> None:
    data = _text(2 * _BLOCK + 5)
    assert _write(data, 2) == _by_hand(data)


def test_the_gzip_program_accepts_it() -> None:
    data = _text(2 * _BLOCK)
    run = subprocess.run([require_program("gzip"), "-dc"], input=_write(data, 2), capture_output=True, check=True)
    assert run.stdout == data


def test_the_version_that_decides_the_bytes_is_named() -> None:
    assert zlib_ng_version().split(".")[0].isdigit()


@given(st.binary(max_size=3000), st.lists(st.integers(0, 10**6), max_size=5))
def test_any_deflater_is_read_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    for level in (0, 1, 9):
        assert _read(gz(data, level=level), cuts) == data


@given(st.binary(max_size=400), st.lists(st.integers(0, 10**6), max_size=4))
def test_noise_gives_declared_errors_however_it_is_cut(noise: bytes, cuts: list[int]) -> None:
    for tgz in (noise, GZIP_HEADER + noise):
        assert _read(tgz, cuts) == _read(tgz)


@given(st.integers(0, 10**6), st.integers(1, 255), st.lists(st.integers(0, 10**6), max_size=4))
def test_a_changed_byte_gives_the_same_result_however_it_is_cut(at: int, mask: int, cuts: list[int]) -> None:
    tgz = bytearray(gz(b"some words and some more words" * 9))
    tgz[at % len(tgz)] ^= mask
    assert _read(bytes(tgz), cuts) == _read(bytes(tgz))


def test_byte_by_byte() -> None:
    tgz = gz(b"words " * 50)
    assert _read(tgz, list(range(len(tgz)))) == b"words " * 50


def test_any_xfl_is_read() -> None:
    for xfl in (2, 4, 255):
        assert _read(gz(b"x", head=GZIP_HEADER[:8] + bytes((xfl,)) + GZIP_HEADER[9:])) == b"x"


def test_the_ratio_is_judged_once_16_mib_are_out() -> None:
    small, large = bytes(limits.RATIO_FREE_BYTES), bytes(limits.RATIO_FREE_BYTES + 1)
    assert _read(gz(small)) == small
    assert _read(gz(large)) == "archive.ratio"


def test_the_writer_refuses_what_readers_would_take_for_a_bomb() -> None:
    out: list[bytes] = []
    with GzipWriter(out.append, 2) as writer, pytest.raises(ContentRejected) as caught:
        for _ in range(40):
            writer.write(bytes(2**20))
        writer.close()
    assert caught.value.reason == "tree.ratio"


def test_the_writer_judges_the_ratio_inside_its_blocks_too() -> None:
    """Below 200:1 at the end of every block, above it in the middle of the last one: readers look there."""
    noise = random.Random(2)
    blocks = [bytes(_BLOCK - 1835) + noise.randbytes(1835) for _ in range(limits.RATIO_FREE_BYTES // _BLOCK)]
    blocks.append(bytes(_BLOCK - 9000) + noise.randbytes(9000))
    data = b"".join(blocks)
    tgz = _by_hand(data)
    for count in range(1, len(blocks) + 1):
        assert len(b"".join(blocks[:count])) / len(_by_hand(b"".join(blocks[:count]))) < limits.RATIO
    assert _read(tgz) == "archive.ratio"
    with GzipWriter(lambda _: None, 2) as writer, pytest.raises(ContentRejected) as caught:
        writer.write(data)
        writer.close()
    assert caught.value.reason == "tree.ratio"


def test_what_the_writer_lets_pass_the_reader_takes() -> None:
    """Just under the ratio: zeros with enough noise between them."""
    noise = random.Random(1)
    data = b"".join(bytes(2**17) + noise.randbytes(2**10) for _ in range(200))
    assert len(data) > limits.RATIO_FREE_BYTES
    tgz = _write(data, 2)
    assert len(data) / len(tgz) > 90
    assert _read(tgz) == data


def test_a_sink_that_fails_stops_the_writer() -> None:
    class Full(Exception):
        pass

    def sink(data: bytes) -> None:
        if len(data) > 10:
            raise Full

    with pytest.raises(Full), GzipWriter(sink, 2) as writer:
        writer.write(_text(8 * _BLOCK))
        writer.close()
