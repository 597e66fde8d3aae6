"""Step 10 as the resolver sees it: whether proofs are demanded, what they proved, and the row of every check.

The checks themselves are :class:`libreseed.silexium.verification.ReleaseVerification`'s. Those about documents (10.1 to
10.11) need no byte of the package, so they are taken as soon as step 1 is done: what they refuse is refused before a
download, and the author whom they prove can be believed as the publisher. 10.12 and 10.13 are taken in step 10, in its
place. There is no IO, clock or network in here. Specification: ``resolver.md``, "Step 10".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, Malformed, ProofRejected, RecordRejected
from libreseed.ids import PublicKey
from libreseed.resolve.policy import Policy
from libreseed.resolve.receipt import Receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis

if TYPE_CHECKING:
    from libreseed.silexium.log_memory import LogMemory
    from libreseed.silexium.tree_head import SignedTreeHead
    from libreseed.silexium.trust_policy import SilexiumPolicy
    from libreseed.silexium.verification import Check, ReleaseVerification

__all__ = [
    "DOCUMENT_CHECKS",
    "NOT_CHECKED",
    "PROVEN",
    "attested_basis",
    "check_lines",
    "check_rows",
    "proven_author",
    "proven_facts",
    "require_age",
    "require_choice",
    "require_still",
    "required_growth",
    "unavailable",
]

DOCUMENT_CHECKS = 11  # 10.1 to 10.11
PROVEN, NOT_CHECKED = "proven", "not checked"  # what a receipt says of step 10


def require_choice(request: Request, policy: Policy) -> None:
    """Silexium is demanded unless the user waives it aloud, and the policy lets him; raises exit 40 otherwise."""
    if request.without_silexium:
        if not policy.silexium_waivable:
            raise RecordRejected("silexium.required", "the policy demands Silexium proofs: --no-silexium is refused")
        return
    if policy.silexium is None:
        raise unavailable("Silexium proofs are required, and no policy says whose are believed")


def unavailable(message: str) -> LibreSeedError:
    """The refusal of what nobody could verify, with the ways out."""
    details = [
        "whom to believe:   --policy F, or policy.toml in LibreSeed's configuration folder, with a [silexium] table",
        "the proofs:        --bundle F (a file, no network), --silexium URL or DIR, or sources in the policy",
        "to go without:     --no-silexium",
    ]
    return ProofRejected("silexium.unavailable", message, details=details)


def required_growth(memory: LogMemory | None, sth: SignedTreeHead) -> tuple[int, int] | None:
    """The sizes between which a consistency proof is needed to accept ``sth``; None when none is.

    A head that was seen before, or that a known conflict refuses anyway, needs none.
    """
    if memory is None or memory.conflict is not None:
        return None
    old, new = sorted((memory.head.size, sth.size))
    if old == 0 or sth.size in {known.size for known in (memory.head, *memory.trail)}:
        return None
    return old, new


def require_age(verification: ReleaseVerification, policy: Policy) -> None:
    """Demand that the server's attestation is in a block that is old enough; raises ``silexium.too-young``.

    The cool-down of a careful user: whoever takes over a publisher is mostly found out within hours. It says how long
    ago the release was attested, not since when it was to be seen. Who demands no age is not asked to wait for a block
    whose miner's clock is ahead: Bitcoin allows two hours.
    """
    from libreseed.silexium.instants import format_instant

    since = verification.trusted.times[-1].anchored
    if policy.min_age_s and verification.now - since < policy.min_age_s:
        message = f"{verification.release} was attested at {format_instant(since)}; the policy wants it to be "
        message += f"{policy.min_age_s} s old"
        raise ProofRejected("silexium.too-young", message, evidence={"attested": format_instant(since)})


def proven_author(verification: ReleaseVerification, policy: Policy) -> PublicKey:
    """The key that checks 10.1 to 10.11 have proven to be the author's; the policy trusts it for the package."""
    if policy.silexium is None or verification.completed < DOCUMENT_CHECKS:
        raise AssertionError("used before its checks")
    return policy.silexium.keys.find(verification.trusted.attestations[0].key_id).public


def attested_basis(receipt: Receipt, policy: Policy) -> TrustBasis | None:
    """Whom to believe of a release that was installed on its proven author's word, if the policy still names him."""
    if receipt.trust != "silexium" or policy.silexium is None:
        return None
    from libreseed.silexium.keyring import Role

    name, key = receipt.minimal.name, receipt.minimal.pubkey
    for known in policy.silexium.keys:
        if known.public == key and Role.AUTHOR in known.roles and (known.packages is None or name in known.packages):
            return TrustBasis((key,), "silexium")
    return None


def proven_facts(verification: ReleaseVerification) -> dict[str, wire.JsonValue]:
    """What a receipt keeps of the proofs: log, head, entry, manifest, keys and times by role, and the checks passed."""
    trusted = verification.trusted
    if trusted.checkpoint is None or trusted.entry is None or trusted.manifest is None:
        raise AssertionError("used before its checks")
    head = trusted.checkpoint.sth
    times = zip(trusted.attestations, trusted.times, strict=True)
    return {
        "log": head.head.origin,
        "tree_size": head.size,
        "root_hash": str(head.root),
        "head_time": head.timestamp,
        "entry": str(trusted.entry.digest),
        "manifest": str(trusted.manifest.digest),
        "channel": trusted.manifest.channel,
        "network": verification.policy.time.network.name,
        "witnesses": [str(cosignature.signer.key) for cosignature in trusted.checkpoint.cosignatures],
        "signers": {
            str(item.role): {
                "key_id": str(item.key_id),
                "stamped": time.stamped,
                "authorities": [stamp.tsa for stamp in time.stamps],
                "block": time.height,
                "block_time": time.anchored,
            }
            for item, time in times
        },
        "checks": [check.number for check in verification.checks if check.verdict == "passed"],
    }


def require_still(receipt: Receipt, policy: Policy) -> None:
    """Demand that what a receipt says was proven is enough for the policy of today; raises ProofRejected if it is not.

    Keys are revoked, authorities distrusted, witnesses demanded after a release was installed; and a policy for tests
    must prove nothing to one that is meant. A receipt that does not say what is asked for is not enough either.
    """
    if policy.silexium is None or receipt.silexium != PROVEN or receipt.tree is None:
        raise unavailable("it was installed without Silexium proofs")
    demand, facts = policy.silexium, receipt.proofs
    try:
        log, channel, network = demand.find_log(facts["log"]), facts["channel"], facts["network"]
        log.witnesses.require({PublicKey.parse(key) for key in facts["witnesses"]})
        if network != demand.time.network.name:
            raise ProofRejected("silexium.header", f"it was proven by the chain {network!r:.40}")
        if demand.channels is not None and channel not in demand.channels:
            raise ProofRejected("silexium.channel", f"the policy does not take releases of channel {channel!r:.80}")
        _require_signers(facts["signers"], receipt, demand)
    except (KeyError, TypeError, AttributeError, Malformed) as error:
        raise ProofRejected("silexium.unavailable", f"its receipt does not say enough: {error!r:.100}") from error


def _require_signers(signers: wire.JsonValue, receipt: Receipt, demand: SilexiumPolicy) -> None:
    from libreseed.silexium.keyring import ROLES, KeyId, require_standing

    for role in ROLES:
        said = signers[role.value]
        stamped, key = said["stamped"], demand.keys.find(KeyId(said["key_id"]))
        key.require_role(role, receipt.minimal.name)
        require_standing(key, created_at=stamped, stamped_at=stamped, anchored_at=said["block_time"])
        trusted = [tsa for tsa in demand.time.tsas if tsa.not_before <= stamped <= tsa.distrust_after]
        if len({tsa.name for tsa in trusted} & set(said["authorities"])) < demand.time.tsa_threshold:
            raise ProofRejected("silexium.tsa-quorum", f"too few of the authorities that stamped for the {role} count")


def check_lines(rows: object) -> list[str]:
    """The rows as text: number, verdict and name of each check, and its inputs below."""
    lines: list[str] = []
    for row in rows if isinstance(rows, Sequence) else ():
        lines.append(f"{row['check']:<6} {row['verdict']:<26} {row['name']}")
        lines += [f"         {name}: {value}" for name, value in row["inputs"].items()]
    return lines


def check_rows(checks: Iterable[Check]) -> list[dict[str, object]]:
    """One object per check, for ``--json`` and ``--explain``: its number, name, verdict and inputs."""
    return [
        {
            "check": check.number,
            "name": check.name,
            "verdict": check.verdict,
            "inputs": {name: value[: limits.REPORT_CHARS] for name, value in check.inputs.items()},
        }
        for check in checks
    ]
