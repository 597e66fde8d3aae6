"""RFC 3161 stamps: what must hold, one defect at a time, and openssl's verdict beside ours."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from libreseed import limits
from libreseed.errors import ProofRejected, UsageFault
from libreseed.silexium.rfc3161 import TrustedTsa, verify_time_stamp
from tests.tools import require_program
from tests.tsa_support import POLICY, Authority, Certified, certify, root_authority

AT = 1_790_000_000
NOW = AT + 60
MESSAGE = b'{"an":"attestation"}'
ROOT = root_authority()
LEAF = certify("tsa", ROOT)
TSA = Authority(LEAF)
TRUST = TrustedTsa("tsa", ROOT.der)


def reason(token: bytes, *trusted: TrustedTsa, message: bytes = MESSAGE, now: int = NOW) -> str:
    with pytest.raises(ProofRejected) as error:
        verify_time_stamp(token, message, trusted or (TRUST,), now=now)
    return error.value.reason


def test_a_good_stamp_gives_its_time_with_its_accuracy() -> None:
    stamp = verify_time_stamp(TSA.stamp(MESSAGE, AT), MESSAGE, [TRUST], now=NOW)
    assert (stamp.tsa, stamp.time) == ("tsa", AT + 1)


@pytest.mark.parametrize("kind", ["ec", "rsa", "p384"])
@pytest.mark.parametrize("chain", [False, True])
def test_keys_and_chains(kind: str, chain: bool) -> None:
    key = {
        "ec": lambda: None,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    middle = certify("middle", ROOT, ca=True) if chain else ROOT
    leaf = certify("leaf", middle, key=key)
    # Both orders of the certificate set: OpenSSL does not sort it, the library demands DER order.
    for embedded in ([leaf.der, middle.der], [middle.der, leaf.der]) if chain else ([leaf.der],):
        token = Authority(leaf).stamp(MESSAGE, AT, certificates=embedded)
        assert verify_time_stamp(token, MESSAGE, [TRUST], now=NOW).time == AT + 1


def test_an_ed25519_root_may_vouch_for_the_authority() -> None:
    root = root_authority("ed", ed25519.Ed25519PrivateKey.generate())
    token = Authority(certify("leaf", root)).stamp(MESSAGE, AT)
    assert verify_time_stamp(token, MESSAGE, [TrustedTsa("ed", root.der)], now=NOW).tsa == "ed"


def test_a_pinned_leaf_may_be_left_out_of_the_token() -> None:
    pinned = replace(TRUST, leaf=LEAF.der)
    verify_time_stamp(TSA.stamp(MESSAGE, AT, certificates=[]), MESSAGE, [pinned], now=NOW)
    assert reason(TSA.stamp(MESSAGE, AT, certificates=[])) == "silexium.tsa-untrusted"


def test_the_older_esscertid_is_read_too() -> None:
    verify_time_stamp(TSA.stamp(MESSAGE, AT, ess="v1"), MESSAGE, [TRUST], now=NOW)


def test_a_stamp_of_other_bytes_is_refused() -> None:
    assert reason(TSA.stamp(b"other", AT)) == "silexium.tsa-imprint"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384"])
def test_an_imprint_by_another_algorithm_is_refused(algorithm: str) -> None:
    assert reason(TSA.stamp(MESSAGE, AT, algorithm=algorithm)) == "silexium.tsa-imprint"


def test_the_right_hash_under_a_false_label_is_refused() -> None:
    """64 bytes either way: the library compares the bytes and never looks at the algorithm."""
    assert reason(TSA.stamp(MESSAGE, AT, label="sha3_512")) == "silexium.tsa-imprint"


def test_a_stamp_without_an_accuracy_is_exact() -> None:
    exact = replace(TSA, accuracy=None)
    assert verify_time_stamp(exact.stamp(MESSAGE, AT), MESSAGE, [TRUST], now=NOW).time == AT


def test_a_stranger_with_the_same_names_is_not_trusted() -> None:
    stranger = root_authority()
    assert reason(Authority(certify("tsa", stranger)).stamp(MESSAGE, AT)) == "silexium.tsa-untrusted"


def test_a_token_whose_signature_is_another_keys_is_refused() -> None:
    forged = Authority(Certified(ec.generate_private_key(ec.SECP256R1()), LEAF.certificate))
    assert reason(forged.stamp(MESSAGE, AT)) == "silexium.tsa-untrusted"


@pytest.mark.parametrize(
    ("usage", "critical"),
    [
        ([], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], True),
        ([ExtendedKeyUsageOID.TIME_STAMPING], False),
        ([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH], True),
    ],
)
def test_a_certificate_for_another_purpose_is_refused(usage: list[object], critical: bool) -> None:
    leaf = certify("leaf", ROOT, usage=usage, critical=critical)  # type: ignore[arg-type]  # OIDs
    token = Authority(leaf).stamp(MESSAGE, AT)
    assert reason(token) in ("silexium.tsa-untrusted", "silexium.tsa-certificate")
    pinned = replace(TRUST, leaf=leaf.der)
    assert reason(token, pinned) in ("silexium.tsa-untrusted", "silexium.tsa-certificate")


def test_the_signer_must_name_its_certificate() -> None:
    assert reason(TSA.stamp(MESSAGE, AT, ess="none")) == "silexium.tsa-certificate"
    assert reason(TSA.stamp(MESSAGE, AT, ess="md5")) == "silexium.tsa-certificate"


def test_another_certificate_in_place_of_the_named_one_is_refused() -> None:
    """Same key, same issuer, same serial number, another certificate: only ESSCertID tells them apart."""
    serial = LEAF.certificate.serial_number
    twin = certify("tsa", ROOT, key=LEAF.key, serial=serial)
    assert reason(TSA.stamp(MESSAGE, AT, certificates=[twin.der])) == "silexium.tsa-certificate"
    assert reason(TSA.stamp(MESSAGE, AT, named=twin.der)) == "silexium.tsa-certificate"
    assert reason(TSA.stamp(MESSAGE, AT, certificates=[LEAF.der, twin.der])) == "silexium.tsa-certificate"


def test_another_leaf_than_the_pinned_one_is_refused() -> None:
    other = certify("other", ROOT)
    assert reason(TSA.stamp(MESSAGE, AT), replace(TRUST, leaf=other.der)) == "silexium.tsa-untrusted"


def test_another_policy_than_the_demanded_one_is_refused() -> None:
    verify_time_stamp(TSA.stamp(MESSAGE, AT), MESSAGE, [replace(TRUST, policy=POLICY)], now=NOW)
    assert reason(TSA.stamp(MESSAGE, AT), replace(TRUST, policy="1.2.3.4")) == "silexium.tsa-untrusted"


def test_an_expired_authority_keeps_its_old_stamps_but_makes_no_new_ones() -> None:
    valid = dt.datetime.fromtimestamp(AT - 1000, dt.UTC), dt.datetime.fromtimestamp(AT + 1000, dt.UTC)
    authority = Authority(certify("old", ROOT, valid=valid))
    much_later = AT + 10**8
    verify_time_stamp(authority.stamp(MESSAGE, AT), MESSAGE, [TRUST], now=much_later)
    for at in (AT - 2000, AT + 2000):
        assert reason(authority.stamp(MESSAGE, at), now=much_later) == "silexium.tsa-untrusted"


def test_a_compromised_authority_is_cut_off_by_its_window() -> None:
    window = replace(TRUST, not_before=AT - 10, distrust_after=AT)
    verify_time_stamp(TSA.stamp(MESSAGE, AT), MESSAGE, [window], now=NOW)
    for at in (AT + 1, AT - 11):
        assert reason(TSA.stamp(MESSAGE, at), window) == "silexium.tsa-window"


def test_a_stamp_from_the_future_is_refused() -> None:
    assert reason(TSA.stamp(MESSAGE, NOW + limits.CLOCK_SKEW_SECONDS + 1)) == "silexium.future"


def test_a_weak_digest_in_the_signature_is_refused() -> None:
    leaf = certify("rsa", ROOT, key=rsa.generate_private_key(65537, 2048))
    token = Authority(leaf).stamp(MESSAGE, AT, digest="sha1")
    assert reason(token) in ("silexium.tsa-certificate", "silexium.tsa-untrusted")


@pytest.mark.parametrize("status", ["granted_with_mods", "rejection", "waiting"])
def test_an_answer_that_is_not_a_plain_grant_is_refused(status: str) -> None:
    assert reason(TSA.stamp(MESSAGE, AT, status=status)) == "silexium.tsa"


def test_a_token_by_two_signers_is_refused() -> None:
    assert reason(TSA.stamp(MESSAGE, AT, signers=2)) == "silexium.tsa"
    assert reason(TSA.stamp(MESSAGE, AT, signers=0)) == "silexium.tsa"


def test_signed_data_that_is_no_time_stamp_is_refused() -> None:
    assert reason(TSA.stamp(MESSAGE, AT, content_type="data")) == "silexium.tsa"


def test_too_many_certificates_or_bytes_are_refused() -> None:
    extra = [certify(f"x{n}", ROOT).der for n in range(limits.TSA_CERTIFICATES)]
    assert reason(TSA.stamp(MESSAGE, AT, certificates=[LEAF.der, *extra])) == "silexium.tsa"
    with pytest.raises(ProofRejected, match="at most"):
        verify_time_stamp(TSA.stamp(MESSAGE, AT) + bytes(limits.TSA_RESPONSE_BYTES), MESSAGE, [TRUST], now=NOW)


@pytest.mark.parametrize("cut", [b"", b"\x30", b"\x30\x80" + bytes(100), b"\x30" * 20_000, b"\x30\x03\x02\x01\x00"])
def test_garbage_is_refused(cut: bytes) -> None:
    assert reason(cut) == "silexium.tsa"


def test_a_byte_behind_the_response_is_refused() -> None:
    assert reason(TSA.stamp(MESSAGE, AT) + b"\x00") == "silexium.tsa"


def test_no_mutation_changes_what_is_proven_or_raises_another_error() -> None:
    """CMS is malleable where nothing signs it; the time and the signer are not."""
    randomness = random.Random(7)
    middle = certify("middle", ROOT, ca=True)
    leaf = certify("leaf", middle)
    good = Authority(leaf, [middle.der]).stamp(MESSAGE, AT)
    expected = verify_time_stamp(good, MESSAGE, [TRUST], now=NOW)
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(randomness.randint(1, 2)):
            at = randomness.randrange(len(data))
            data[at : at + randomness.randint(0, 2)] = randomness.randbytes(randomness.randint(0, 2))
        try:
            stamp = verify_time_stamp(bytes(data), MESSAGE, [TRUST], now=NOW)
        except ProofRejected:
            continue
        assert stamp == expected


def test_a_policy_with_a_bad_certificate_is_refused() -> None:
    for build in (
        lambda: TrustedTsa("tsa", b"x"),
        lambda: TrustedTsa("tsa", ROOT.der, leaf=b"x"),
        lambda: TrustedTsa("tsa", ROOT.der, policy="not an oid"),
        lambda: TrustedTsa("tsa", ROOT.der, not_before=5, distrust_after=4),
    ):
        with pytest.raises(UsageFault):
            build()


_CONFIG = """
[tsa]
default_tsa = t
[t]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_chain = {whole}
"""


class OpensslTsa:
    """``openssl ts`` as the authority and as the judge."""

    def __init__(self, folder: Path, kind: str, chain: bool) -> None:
        self.program = require_program("openssl")
        self.folder = folder
        self.root = root_authority("openssl-root")
        issuer = certify("middle", self.root, ca=True) if chain else self.root
        self.leaf = certify("tsa", issuer, key=rsa.generate_private_key(65537, 2048) if kind == "rsa" else None)
        (folder / "root.pem").write_bytes(self.root.pem)
        (folder / "tsa.pem").write_bytes(self.leaf.pem)
        (folder / "chain.pem").write_bytes(issuer.pem)
        (folder / "tsa.key").write_bytes(self.leaf.key_pem)
        (folder / "serial").write_text("01")
        (folder / "message").write_bytes(MESSAGE)
        (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder, whole="yes" if chain else "no"))
        self.chain = chain

    def run(self, *arguments: str) -> None:
        subprocess.run([self.program, "ts", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=20)

    def stamp(self) -> bytes:
        self.run("-query", "-data", "message", "-sha512", "-cert", "-out", "query.tsq")
        chain = ["-chain", "chain.pem"] if self.chain else []
        keys = ["-signer", "tsa.pem", "-inkey", "tsa.key", *chain]
        self.run("-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq", *keys, "-out", "reply.tsr")
        return (self.folder / "reply.tsr").read_bytes()

    def accepts(self, token: bytes) -> None:
        (self.folder / "ours.tsr").write_bytes(token)
        self.run("-verify", "-data", "message", "-in", "ours.tsr", "-CAfile", "root.pem")


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize("chain", [False, True], ids=["root", "chain"])
def test_openssl_and_we_accept_the_same_stamps(tmp_path: Path, kind: str, chain: bool) -> None:
    openssl = OpensslTsa(tmp_path, kind, chain)
    trust = TrustedTsa("openssl", openssl.root.der, policy=POLICY)
    token = openssl.stamp()
    now = int(dt.datetime.now(dt.UTC).timestamp())
    stamp = verify_time_stamp(token, MESSAGE, [trust], now=now + 5)
    assert abs(stamp.time - now) < 60
    openssl.accepts(token)
    # What the suite's own authority makes is accepted by both as well, so the attacks above start from a good token.
    ours = Authority(openssl.leaf, _chain_of(openssl))
    token = ours.stamp(MESSAGE, now)
    verify_time_stamp(token, MESSAGE, [trust], now=now)
    openssl.accepts(token)


def _chain_of(openssl: OpensslTsa) -> list[bytes]:
    pem = (openssl.folder / "chain.pem").read_bytes()
    return [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)] if openssl.chain else []
