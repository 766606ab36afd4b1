"""The classes of attack that platforms of this kind have fallen to, what stands against each here, and where it is tried.

The advisories are those of MLflow, ZenML, ClearML, Kubeflow, Ray, W&B Weave and of libraries that such platforms use. A test in
this folder says with `@attack("…")` which class it tries; what is tried elsewhere is named in `elsewhere`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Class:
    control: str
    """What makes it impossible here, in a sentence."""
    cves: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    """`path::test` of what tries it outside this folder."""


def attack(name: str) -> Callable[[F], F]:
    """Marks a test as an attempt of that class."""
    assert name in CLASSES, name

    def mark(test: F) -> F:
        test.attack = name  # type: ignore[attr-defined]
        return test

    return mark


CLASSES: Mapping[str, Class] = {
    "malicious model": Class(
        "A model is ONNX, safetensors or a booster's own text; nothing here unpickles, compiles or evaluates what came with it.",
        (
            "CVE-2024-37052", "CVE-2024-37053", "CVE-2024-37054", "CVE-2024-37055", "CVE-2024-37056", "CVE-2024-37057",
            "CVE-2024-37058", "CVE-2024-37059", "CVE-2024-37060", "CVE-2024-24590", "CVE-2025-32434", "CVE-2026-57516",
            "CVE-2026-41486",
        ),
    ),
    "trusted scanner": Class(
        "What decides is the format, read by a parser of its own; no scanner is asked, so none can be misled.",
        ("CVE-2025-1944", "CVE-2025-1945", "CVE-2025-46417", "CVE-2025-71320", "CVE-2025-71339", "CVE-2026-53875"),
    ),
    "unguarded route": Class(
        "Every route, command, duty and step is bound to a right; one that is bound to none stops the start.",
        ("CVE-2026-0545", "CVE-2026-2651", "CVE-2026-2652", "CVE-2025-34351", "CVE-2023-48022", "CVE-2024-4263",
         "CVE-2026-32981"),
        (
            "tests/unit/api/test_routes.py::test_a_route_that_nobody_guards_stops_the_start",
            "tests/unit/wiring/test_doors.py",
            "tests/journeys/test_door_walk.py::test_no_door_of_the_control_plane_opens_to_anybody_who_has_no_business_there",
            "tests/journeys/test_door_walk.py::test_no_door_of_an_endpoint_opens_to_anybody_who_has_no_business_there",
            "tests/journeys/test_door_walk.py::test_no_command_runs_for_a_key_that_may_not",
        ),
    ),
    "cross-tenant access": Class(
        "A project is a ledger, a pepper and an authority of its own; a key of one is nothing in another.",
        ("CVE-2026-2734", "CVE-2024-2035"),
        ("tests/journeys/test_door_walk.py",),
    ),
    "default credential": Class(
        "There is no account and no password; the first key is random and made by whoever owns the state folder.",
        ("CVE-2026-2635", "CVE-2025-11200", "CVE-2024-24595"),
    ),
    "redirect and rebinding": Class(
        "Addresses come from the settings alone and pass the gate of zones; the one that was looked at is connected to, no "
        "redirect is followed, and nothing of an answer is shown.",
        ("CVE-2026-64849", "CVE-2025-52967", "CVE-2023-6570", "CVE-2023-6974", "CVE-2026-21441"),
        (
            "tests/unit/adapters/test_egress.py",
            "tests/unit/adapters/test_oidc.py::test_a_description_that_leads_elsewhere_is_not_followed",
            "tests/journeys/test_residency_leak.py",
        ),
    ),
    "client-supplied path": Class(
        "A client names things by references whose letters are few; bytes lie under their own digest.",
        (
            "CVE-2023-1177", "CVE-2023-2780", "CVE-2023-2356", "CVE-2023-30172", "CVE-2023-43472", "CVE-2023-6018",
            "CVE-2023-6753", "CVE-2023-6831", "CVE-2023-6909", "CVE-2023-6975", "CVE-2023-6020", "CVE-2023-6021",
            "CVE-2024-1558", "CVE-2024-1560", "CVE-2024-1593", "CVE-2024-1594", "CVE-2024-2083", "CVE-2024-24591",
            "CVE-2024-2928", "CVE-2024-3573", "CVE-2024-3848", "CVE-2024-7340", "CVE-2025-11201", "CVE-2026-2033",
            "CVE-2026-2614",
        ),
        ("tests/unit/contracts/test_files.py",),
    ),
    "archive traversal": Class(
        "No archive is ever unpacked.",
        ("CVE-2025-15031", "CVE-2025-15036", "CVE-2025-8406", "CVE-2025-8917"),
    ),
    "command injection": Class(
        "No shell is ever started, and no command is made of what came in.",
        ("CVE-2025-15379", "CVE-2025-14287", "CVE-2024-0520", "CVE-2024-37061", "CVE-2023-6709", "CVE-2023-6019"),
    ),
    "foreign page": Class(
        "The control plane answers known hosts alone and refuses a change that another site's page asks for; nothing that a "
        "browser sends by itself opens an endpoint.",
        ("CVE-2025-14279", "CVE-2026-2611", "CVE-2025-62593", "CVE-2026-27482", "CVE-2025-1473"),
    ),
    "script in a page": Class(
        "Answers are JSON that no browser may read as a page; the report escapes every text.",
        ("CVE-2026-33865", "CVE-2024-27132", "CVE-2024-27133", "CVE-2023-6568", "CVE-2024-9526", "CVE-2023-6571",
         "CVE-2024-5062"),
    ),
    "secret in an answer": Class(
        "Secrets are references that only the process which needs them resolves; nothing of the environment is interpolated.",
        ("CVE-2026-4035", "CVE-2024-24594"),
    ),
    "overwritten artifact": Class(
        "An artifact's name is its digest, the model's manifest is signed, and both are checked when it is loaded.",
        ("CVE-2026-2651",),
    ),
    "forged metric": Class(
        "Gates measure themselves, on rows that were sealed; a decision that somebody else wrote counts for nothing, and a model "
        "with a tier needs people who did not make it.",
        (),
        ("tests/unit/registry/test_service.py", "tests/unit/registry/test_separation.py"),
    ),
    "tampered audit log": Class(
        "Events are leaves of a Merkle tree with signed checkpoints, which witnesses elsewhere cosign and a stranger's own "
        "program checks.",
        (),
        (
            "tests/unit/governance/test_audit.py",
            "tests/unit/governance/test_tamper_matrix.py",
            "tests/unit/auditor/test_verify.py",
        ),
    ),
    "stolen or forged token": Class(
        "Algorithms, issuer, audience and keys are pinned here and taken from no token; lives are short, and a list of what was "
        "taken back is asked at each call.",
        ("CVE-2024-2260", "CVE-2024-4311", "CVE-2022-29217", "CVE-2025-45768", "CVE-2026-32597", "CVE-2024-33663",
         "CVE-2024-33664"),
        (
            "tests/unit/inference/test_tokens.py",
            "tests/unit/adapters/test_oidc.py",
            "tests/unit/adapters/test_oidc_fuzz.py",
            "tests/journeys/test_identity.py",
        ),
    ),
    "raised privilege": Class(
        "What a role may do stands in one table; nobody but the operator hands out roles, and none that judges others without "
        "the word of somebody who has one.",
        ("CVE-2024-25723", "CVE-2025-1474"),
        (
            "tests/unit/stages/test_vouching.py",
            "tests/unit/governance/test_confirming.py",
            "tests/unit/registry/test_separation.py",
            "tests/unit/governance/test_elevation.py",
        ),
    ),
    "exhausted server": Class(
        "Bodies, names, depths and times are bounded before anybody looks at them.",
        ("CVE-2025-0453", "CVE-2024-6838", "CVE-2024-9340", "CVE-2024-4460", "CVE-2025-66418", "CVE-2025-66471"),
        ("tests/fuzz/test_requests.py", "tests/fuzz/test_policies.py", "tests/unit/adapters/test_oidc_fuzz.py"),
    ),
    "open permissions": Class(
        "State and keys are their owner's alone, whatever the umask says.",
        ("CVE-2025-10279", "CVE-2024-27134", "CVE-2026-4137"),
    ),
}  # fmt: skip
