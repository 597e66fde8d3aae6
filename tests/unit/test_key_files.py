"""Key files: the format is closed and strict, its cost bounded, and every changed byte is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, UsageFault
from libreseed.keys.ed25519 import PrivateKey
from libreseed.keys.keyfile import Cost, KeyFile, parse_key_file, seal_key

KEY = PrivateKey(bytes(range(32)))
CHEAP = Cost(passes=1, memory=8 * 2**10)
SEALED = seal_key(KEY, b"open sesame", salt=bytes(16), nonce=bytes(24), cost=CHEAP)
PLAIN = KeyFile(KEY.public, seed=KEY.seed)


def test_sealed_round_trip() -> None:
    again = parse_key_file(SEALED.data)
    assert again == SEALED
    assert again.unlock(b"open sesame") == KEY


def test_plain_round_trip() -> None:
    again = parse_key_file(PLAIN.data)
    assert again == PLAIN
    assert again.unlock(None) == KEY


def test_the_seed_is_in_no_repr() -> None:
    for text in (repr(PLAIN), repr(KEY), repr(SEALED)):
        assert repr(KEY.seed) not in text
    assert KEY.seed not in SEALED.data


@pytest.mark.parametrize("passphrase", [b"open sesamf", b"", b"open sesame\n", None])
def test_wrong_passphrase_opens_nothing(passphrase: bytes | None) -> None:
    with pytest.raises(UsageFault) as caught:
        SEALED.unlock(passphrase)
    assert caught.value.reason == "key.passphrase"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("file", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_every_changed_byte_is_refused(file: KeyFile) -> None:
    data = file.data
    for at in range(len(data)):
        for flip in (0x01, 0x20, 0x80):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises(UsageFault) as caught:
                parse_key_file(changed).unlock(b"open sesame")
            assert caught.value.reason in ("key.malformed", "key.passphrase")


@pytest.mark.parametrize("file", [SEALED, PLAIN], ids=["sealed", "plain"])
def test_every_cut_and_added_byte_is_refused(file: KeyFile) -> None:
    for at in range(len(file.data)):
        for changed in (file.data[:at], file.data[:at] + b" " + file.data[at:]):
            with pytest.raises(UsageFault, match="not a key file"):
                parse_key_file(changed)


def _with(**members: object) -> bytes:
    return wire.canonical({**json.loads(SEALED.data), **members}) + b"\n"


def _with_sealed(**members: object) -> bytes:
    return _with(sealed={**json.loads(SEALED.data)["sealed"], **members})


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_with(extra=1), id="unknown member"),
        pytest.param(_with(seed="A" * 43 + "="), id="sealed and plain at once"),
        pytest.param(_with(protocol="libreseed-key-v2"), id="other protocol"),
        pytest.param(_with_sealed(extra=1), id="unknown inner member"),
        pytest.param(_with_sealed(kdf="scrypt"), id="other kdf"),
        pytest.param(_with_sealed(memory=limits.KEY_KDF_MEMORY_MAX + 1024), id="memory bomb"),
        pytest.param(_with_sealed(memory=1023), id="memory not whole KiB"),
        pytest.param(_with_sealed(memory=0), id="no memory"),
        pytest.param(_with_sealed(passes=limits.KEY_KDF_PASSES + 1), id="time bomb"),
        pytest.param(_with_sealed(passes=0), id="no pass"),
        pytest.param(_with_sealed(passes=True), id="boolean passes"),
        pytest.param(_with_sealed(salt="AAAA"), id="short salt"),
        pytest.param(_with_sealed(box="A" * 63 + "="), id="short box"),
        pytest.param(_with_sealed(nonce=5), id="nonce no text"),
        pytest.param(_with(sealed=[]), id="sealed no object"),
        pytest.param(_with(pubkey=str(KEY.public)[:-1]), id="bad public key"),
        pytest.param(SEALED.data + b" " * limits.KEY_FILE_BYTES + b"\n", id="too large"),
        pytest.param(b"\n", id="empty"),
        pytest.param(b"[]\n", id="an array"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\n", id="pem"),
    ],
)
def test_refused_file(data: bytes) -> None:
    with pytest.raises(UsageFault) as caught:
        parse_key_file(data)
    assert caught.value.reason == "key.malformed"


def test_a_public_key_of_another_seed_is_refused() -> None:
    other = PrivateKey(bytes(32)).public
    for file in (KeyFile(other, sealed=SEALED.sealed), KeyFile(other, seed=KEY.seed)):
        with pytest.raises(UsageFault) as caught:
            file.unlock(b"open sesame")
        assert caught.value.reason == "key.malformed"


def test_no_error_quotes_the_seed() -> None:
    spoiled = json.loads(PLAIN.data)["seed"][:-2] + "9="  # spare bits set: canonical base64 no more
    with pytest.raises(UsageFault) as caught:
        parse_key_file(wire.canonical({**json.loads(PLAIN.data), "seed": spoiled}) + b"\n")
    assert spoiled not in str(caught.value)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda noise: SEALED.data[:150] + noise))
@settings(deadline=None)
def test_only_the_declared_fault_escapes(data: bytes) -> None:
    try:
        parse_key_file(data)
    except LibreSeedError as error:
        assert error.reason == "key.malformed"


def test_the_worked_example_of_the_specification_opens() -> None:
    page = Path(__file__).parents[2] / "docs" / "specification" / "keys.md"
    (line,) = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith('{"protocol"')]
    assert parse_key_file(line.encode() + b"\n").unlock(b"correct horse").seed == bytes(32)
