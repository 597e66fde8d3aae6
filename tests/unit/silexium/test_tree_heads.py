"""Heads of the log: one signature as JSON and as a note, strict notes, and witnesses counted by keys."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected, UsageFault
from libreseed.ids import Blake3Digest, PublicKey, Signature
from libreseed.keys import ed25519
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.merkle import BLAKE3_TREE
from libreseed.silexium.quorum import NO_QUORUM, Quorum
from libreseed.silexium.signed_note import NoteSignature, SignedNote, note_key_hash
from libreseed.silexium.tree_head import (
    Checkpoint,
    Cosignature,
    NamedKey,
    SignedTreeHead,
    TreeHead,
    parse_checkpoint,
    parse_cosignatures,
    parse_tree_head,
)

LOG_KEY = PrivateKey(bytes([1]) * 32)
LOG = NamedKey("log.example/silexium/b3", LOG_KEY.public)
HEAD = TreeHead(LOG.name, 109482, Blake3Digest(bytes([1]) * 32))
STH = SignedTreeHead.sign(HEAD, 1_800_000_000, LOG_KEY)
WITNESS_KEYS = [PrivateKey(bytes([n]) * 32) for n in (11, 12, 13)]
WITNESSES = [NamedKey(f"witness{n}.example", key.public) for n, key in enumerate(WITNESS_KEYS)]
COSIGNED = tuple(
    Cosignature.sign(HEAD, witness.name, 1_800_000_005, key)
    for witness, key in zip(WITNESSES, WITNESS_KEYS, strict=True)
)


def reason(call: object, *arguments: object) -> str:
    with pytest.raises(ProofRejected) as error:
        call(*arguments)  # type: ignore[operator]  # any of the parsers
    return error.value.reason


def test_one_signature_serves_json_and_note() -> None:
    checkpoint = parse_checkpoint(Checkpoint(STH).data, LOG)
    assert checkpoint.sth == parse_tree_head(STH.members(), LOG) == STH
    assert Checkpoint(parse_tree_head(wire.parse(wire.canonical(STH.members()), max_bytes=10**4), LOG)).data == (
        checkpoint.data
    )


def test_the_signed_bytes_are_those_of_cosignature_v1() -> None:
    root = base64.b64encode(bytes([1]) * 32).decode()
    message = f"cosignature/v1\ntime 1800000000\nlog.example/silexium/b3\n109482\n{root}\n".encode()
    ed25519.verify(LOG.key, message, STH.signature)
    line = str(STH.line)
    blob = base64.b64decode(line.rsplit(" ", 1)[1])
    assert line.startswith("— log.example/silexium/b3 ")
    assert blob[:4] == hashlib.sha256(LOG.name.encode() + b"\n\x04" + LOG.key.raw).digest()[:4]
    assert blob[4:12] == (1_800_000_000).to_bytes(8, "big")
    assert blob[12:] == STH.signature.raw


def test_the_published_example_note_of_c2sp_is_read() -> None:
    line = (
        "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
    )
    data = f"This is an example message.\n\n{line}\n".encode()
    note = SignedNote.parse(data)
    assert note.data == data
    key = PublicKey(base64.b64decode("AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")[1:])
    assert note.signatures[0].key_hash == note_key_hash("example.com/foo", key, 1) == bytes.fromhex("530d903a")
    ed25519.verify(key, note.text.encode(), Signature(note.signatures[0].body))


def test_witnesses_are_read_and_strangers_left_out() -> None:
    data = Checkpoint(STH, COSIGNED).data
    assert parse_checkpoint(data, LOG, WITNESSES).cosignatures == COSIGNED
    assert parse_checkpoint(data, LOG, WITNESSES[1:2]).cosignatures == COSIGNED[1:2]
    assert parse_checkpoint(data, LOG).cosignatures == ()
    lines = [str(cosignature.line) for cosignature in COSIGNED]
    assert parse_cosignatures(lines, HEAD, WITNESSES) == COSIGNED


def test_a_head_of_another_log_is_refused() -> None:
    assert reason(parse_tree_head, STH.members(), NamedKey("other.example", LOG.key)) == "silexium.head-log"
    other = PrivateKey(bytes([2]) * 32)
    assert reason(parse_tree_head, STH.members(), NamedKey(LOG.name, other.public)) == "silexium.head-signature"
    assert reason(parse_checkpoint, Checkpoint(STH).data, NamedKey(LOG.name, other.public)) == "silexium.head-signature"
    with pytest.raises(ProofRejected, match=f"not signed by the key that is given for the log '{LOG.name}'"):
        parse_checkpoint(Checkpoint(STH).data, NamedKey(LOG.name, other.public))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tree_size": 109483}, "silexium.head-signature"),
        ({"timestamp": 1_800_000_001}, "silexium.head-signature"),
        ({"root_hash": str(Blake3Digest(bytes(32)))}, "silexium.head-signature"),
        ({"tree_size": 2**48 + 1}, "silexium.head"),
        ({"tree_size": -1}, "silexium.head"),
        ({"tree_size": True}, "silexium.head"),
        ({"tree_size": 0}, "silexium.head"),
        ({"timestamp": 2**60}, "silexium.head"),
        ({"root_hash": "00" * 32}, "silexium.head"),
        ({"origin": "a b"}, "silexium.head"),
        ({"origin": "a+b"}, "silexium.head"),
        ({"origin": "a\x7fb"}, "silexium.head"),
        ({"origin": ""}, "silexium.head"),
        ({"origin": "a" * (limits.KEY_NAME_CHARS + 1)}, "silexium.head"),
        ({"origin": 5}, "silexium.head"),
        ({"origin": ["log.example"]}, "silexium.head"),
        ({"extra": 1}, "silexium.head"),
    ],
)
def test_a_changed_head_is_refused(changes: dict[str, wire.JsonValue], expected: str) -> None:
    assert reason(parse_tree_head, STH.members() | changes, LOG) == expected


def test_the_empty_log_has_one_root() -> None:
    TreeHead(LOG.name, 0, Blake3Digest(BLAKE3_TREE.empty_root))
    with pytest.raises(Malformed):
        TreeHead(LOG.name, 0, Blake3Digest(bytes(32)))


_GOOD = Checkpoint(STH, COSIGNED[:1]).data.decode()
_BODY, _LINES = _GOOD.split("\n\n")
_OWN = _LINES.split("\n")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_BODY + "\n\n" + _OWN, "silexium.head"),  # no LF at the end
        (_BODY + "\n" + _OWN + "\n", "silexium.head"),  # no blank line
        (_BODY + "\n\n" + _OWN + "\n\n", "silexium.head"),
        (_BODY + "\n\n" + _OWN + "\r\n", "silexium.head"),
        (_BODY + "\nextension\n\n" + _OWN + "\n", "silexium.head"),
        (_BODY.replace("109482", "0109482") + "\n\n" + _OWN + "\n", "silexium.head"),
        (_BODY.replace("109482", "+109482") + "\n\n" + _OWN + "\n", "silexium.head"),
        (_BODY.replace("109482", "109483") + "\n\n" + _OWN + "\n", "silexium.head-signature"),
        (_BODY + "\n\n" + _OWN + "\n" + _OWN + "\n", "silexium.head-signature"),
        (_BODY + "\n\n" + str(COSIGNED[0].line) + "\n", "silexium.head-signature"),
        (_BODY + "\n\n" + (_OWN + "\n") * (limits.NOTE_SIGNATURES + 1), "silexium.head"),
        (_BODY + "\n\n" + _OWN.replace("— ", "- ") + "\n", "silexium.head"),
        (_BODY + "\n\n" + _OWN.replace("— ", "—  ") + "\n", "silexium.head"),
        (_BODY.replace("\n", "\u2028", 1) + "\n\n" + _OWN + "\n", "silexium.head"),
        ("\x00" + _GOOD, "silexium.head"),
        ("x" * (limits.NOTE_BYTES + 1), "silexium.head"),
        ("", "silexium.head"),
    ],
)
def test_a_checkpoint_that_is_not_in_form_is_refused(text: str, expected: str) -> None:
    assert reason(parse_checkpoint, text.encode(), LOG) == expected


def test_spare_bits_of_base64_make_no_second_line() -> None:
    line = str(NoteSignature("name", bytes(4), bytes(72)))  # 76 bytes: four bits of the last digit are spare
    assert line.endswith("A==")
    with pytest.raises(Malformed):
        NoteSignature.parse(line[:-3] + "B==")


@pytest.mark.parametrize(
    "line",
    [
        "— name AAAA",
        "— name AAAAAA==",
        "— name " + "A" * 5500,
        "— na+me AAAAAAAA",
        "— name AAAAAAAA ",
        "name AAAAAAAA",
        5,
    ],
)
def test_a_signature_line_that_is_not_in_form_is_refused(line: object) -> None:
    with pytest.raises(Malformed):
        NoteSignature.parse(line)


@pytest.mark.parametrize("text", ["", "no newline", "a\x00b\n", "a\tb\n", "a\rb\n"])
def test_a_note_with_another_text_cannot_exist(text: str) -> None:
    with pytest.raises(Malformed):
        SignedNote(text, (STH.line,))
    with pytest.raises(Malformed):
        SignedNote(HEAD.body, ())


def test_a_checkpoint_ends_with_its_third_line() -> None:
    assert TreeHead.parse(HEAD.body) == HEAD
    with pytest.raises(Malformed):
        TreeHead.parse(HEAD.body + "more")


def test_a_huge_note_is_refused_unread() -> None:
    with pytest.raises(Malformed, match="at most"):
        SignedNote.parse(Checkpoint(STH).data + bytes(limits.NOTE_BYTES))


def test_a_known_witness_with_a_bad_line_is_refused() -> None:
    moved = SignedNote(HEAD.body, (STH.line, NoteSignature(WITNESSES[0].name, COSIGNED[0].line.key_hash, bytes(72))))
    assert reason(parse_checkpoint, moved.data, LOG, WITNESSES) == "silexium.witness"
    short = SignedNote(HEAD.body, (STH.line, NoteSignature(WITNESSES[0].name, COSIGNED[0].line.key_hash, bytes(64))))
    assert reason(parse_checkpoint, short.data, LOG, WITNESSES) == "silexium.witness"


def test_a_cosignature_of_another_head_is_refused() -> None:
    other = TreeHead(LOG.name, 5, Blake3Digest(bytes([5]) * 32))
    line = str(Cosignature.sign(other, WITNESSES[0].name, 1, WITNESS_KEYS[0]).line)
    assert reason(parse_cosignatures, [line], HEAD, WITNESSES) == "silexium.witness"


def test_mutated_checkpoints_never_verify_and_raise_only_what_is_declared() -> None:
    randomness = random.Random(5)
    good = Checkpoint(STH).data
    for _ in range(2000):
        data = bytearray(good)
        at = randomness.randrange(len(data))
        data[at : at + randomness.randint(0, 2)] = randomness.randbytes(randomness.randint(0, 2))
        if bytes(data) != good:
            with pytest.raises(ProofRejected):
                parse_checkpoint(bytes(data), LOG)


KEYS = [witness.key for witness in WITNESSES]


def test_k_of_n_counts_distinct_keys() -> None:
    quorum = Quorum(2, tuple(WITNESSES))
    quorum.require(KEYS[:2])
    NO_QUORUM.require([])
    for signers in ([], KEYS[:1], KEYS[:1] * 2, [LOG.key, KEYS[0]]):
        with pytest.raises(ProofRejected) as error:
            quorum.require(signers)
        assert error.value.reason == "silexium.witness-quorum"


def test_one_witness_that_signs_twice_counts_once() -> None:
    again = Cosignature.sign(HEAD, WITNESSES[0].name, 1_800_000_099, WITNESS_KEYS[0])
    checkpoint = parse_checkpoint(Checkpoint(STH, (COSIGNED[0], again)).data, LOG, WITNESSES)
    assert len(checkpoint.cosignatures) == 1


def test_a_group_counts_once_however_many_of_it_collude() -> None:
    quorum = Quorum(2, (Quorum(1, tuple(WITNESSES[:2])), WITNESSES[2]))
    quorum.require([KEYS[1], KEYS[2]])
    with pytest.raises(ProofRejected):
        quorum.require(KEYS[:2])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Quorum(1),
        lambda: Quorum(-1, tuple(WITNESSES)),
        lambda: Quorum(2, (WITNESSES[0], WITNESSES[0])),
        lambda: Quorum(2, (WITNESSES[0], NamedKey("alias.example", WITNESSES[0].key))),
        lambda: Quorum(2, (WITNESSES[0], Quorum(1, (WITNESSES[0],)))),
        lambda: Quorum(1, (Quorum(0, tuple(WITNESSES)),)),
        lambda: Quorum(1, tuple(NamedKey("w", PublicKey(bytes([n]) * 32)) for n in range(limits.WITNESSES + 1))),
    ],
)
def test_a_quorum_that_can_be_bypassed_is_a_faulty_policy(build: object) -> None:
    with pytest.raises(UsageFault) as error:
        build()  # type: ignore[operator]  # parametrized
    assert error.value.reason == "config.policy"
