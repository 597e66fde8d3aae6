"""Section 3.6: both coders give what zfec gives, and a stripe comes back from any k of its parts."""

from __future__ import annotations

import importlib.util
import random
import sys
import threading

import pytest
import zfec
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.repair import galois
from libreseed.repair.galois import load_isal
from libreseed.repair.stripes import (
    IsalCoder,
    StripeCoder,
    ZfecCoder,
    choose_shares,
    decode_rows,
    encode_rows,
    stripe_coder,
)

_SHAPES = st.tuples(st.integers(1, 255), st.integers(1, 255)).filter(lambda shape: sum(shape) <= 256)


def _coders(k: int, m: int) -> list[StripeCoder]:
    isal = load_isal()
    return [ZfecCoder(k, m), *([IsalCoder(k, m, isal)] if isal else [])]


def test_the_fast_library_is_used_where_its_wheel_is_installed() -> None:
    if sys.platform != "linux" or importlib.util.find_spec("pyeclib") is None:
        pytest.skip("no pyeclib here: zfec does the work")
    assert load_isal() is not None
    assert isinstance(stripe_coder(5, 2), IsalCoder)


@given(shape=_SHAPES, length=st.integers(1, 700), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_parity_is_what_zfec_computes(shape: tuple[int, int], length: int, seed: int) -> None:
    k, m = shape
    rows = [random.Random(seed + row).randbytes(length) for row in range(k)]
    expected = zfec.Encoder(k, k + m).encode(rows, tuple(range(k, k + m)))
    for coder in _coders(k, m):
        parity = bytearray(m * length)
        coder.encode_into(bytearray().join(rows), parity)
        assert bytes(parity) == b"".join(expected)
    assert encode_rows(rows, m) == expected


@given(shape=_SHAPES, length=st.integers(1, 300), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_k_parts_give_the_stripe_back(shape: tuple[int, int], length: int, seed: int) -> None:
    k, m = shape
    chance = random.Random(seed)
    rows = [chance.randbytes(length) for _ in range(k)]
    parts = dict(enumerate([*rows, *encode_rows(rows, m)]))
    kept = set(chance.sample(range(k + m), k))
    missing = [row for row in range(k) if row not in kept]
    numbers = choose_shares(k, kept)
    for coder in _coders(k, m):
        decoded = coder.decode(bytearray().join(parts[number] for number in numbers), numbers)
        assert bytes(decoded) == b"".join(rows[row] for row in missing)
    assert decode_rows(k, m, {share: parts[share] for share in kept}) == {row: rows[row] for row in missing}


def test_fewer_than_k_parts_are_refused() -> None:
    rows = [bytes([row]) * 10 for row in range(5)]
    parity = encode_rows(rows, 2)
    with pytest.raises(ValueError, match="4 shares where 5 are needed"):
        decode_rows(5, 2, {0: rows[0], 1: rows[1], 5: parity[0], 6: parity[1]})


@pytest.mark.parametrize("numbers", [(0, 1), (0, 1, 2, 3), (0, 0, 2), (0, 1, 9), (3, 3, 2), (0, 1, -1)])
def test_shares_that_cannot_stand_for_the_rows_are_refused(numbers: tuple[int, ...]) -> None:
    for coder in _coders(3, 2):
        with pytest.raises(ValueError, match="cannot stand"):
            coder.decode(bytearray(30), numbers)


@pytest.mark.parametrize("sizes", [(31, 20), (30, 19), (30, 21), (0, 0)])
def test_buffers_that_do_not_fit_are_refused_before_c_sees_them(sizes: tuple[int, int]) -> None:
    for coder in _coders(3, 2):
        with pytest.raises(ValueError, match=r"."):
            coder.encode_into(bytearray(sizes[0]), bytearray(sizes[1]))


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (245, 12), (256, 1)])
def test_stripes_that_cannot_exist_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no stripe has"):
        ZfecCoder(*shape)


def test_a_library_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(galois.Isal):
        def product(self, matrix: bytes, columns: int) -> galois.Product:
            return super().product(bytes(byte ^ 1 for byte in matrix), columns)

    if load_isal() is None:
        pytest.skip("no ISA-L here")
    monkeypatch.setattr(galois, "Isal", Wrong)
    assert load_isal.__wrapped__() is None


def test_without_the_library_zfec_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(galois, "_candidates", lambda: iter(["/nonexistent/libisal.so"]))
    assert load_isal.__wrapped__() is None


def test_one_coder_serves_threads_at_once() -> None:
    coder = stripe_coder(50, 5)
    inputs = [bytearray(random.Random(at).randbytes(50 * 640)) for at in range(4)]
    outputs = [bytearray(5 * 640) for _ in inputs]

    def code(at: int) -> None:
        for _ in range(20):
            coder.encode_into(inputs[at], outputs[at])

    threads = [threading.Thread(target=code, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for data, parity in zip(inputs, outputs, strict=True):
        expected = bytearray(5 * 640)
        ZfecCoder(50, 5).encode_into(data, expected)
        assert parity == expected
