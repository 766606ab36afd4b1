"""What can be asked of the policies: who may do what and why, whether expectations hold, what others would have said."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput
from falaj.core.moments import length
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject

if TYPE_CHECKING:
    from falaj.app import App

LARGEST = 1 << 20
MOST_CASES = 1_000


@dataclass(frozen=True, slots=True)
class Anything(Subject):
    """Whatever policy can be asked about, by its whole name."""

    def read(self, text: str) -> Ref:
        return Ref.parse(text)


def _explain(asked: Asked) -> Any:
    app, about = asked.app, asked.about
    service = app.governance.policing.policies
    verbs = [asked["verb"]] if asked["verb"] else service.verbs_of(about)
    found = service.explain(about, verbs, _actors(app, asked["who"], asked["roles"]))
    is_narrow = asked["who"] or asked["roles"] or asked["verb"]
    rows = [one for one in found if one.allowed or one.policies or is_narrow]  # who has no role for it is nobody's news
    labels = app.kernel.rule(asked.actor, "policy.read", about).labels
    return {"about": about, "labels": labels, "set": _digest(app), "answers": rows}


def _actors(app: App, who: str | None, roles: tuple[str, ...] | None) -> list[Actor]:
    """A named holder, somebody with these roles, or everybody who holds a key, and the worker."""
    if roles:
        return [Actor(who or "somebody", roles=roles)]
    from falaj.stages.vouching import opens
    from falaj.upkeep import WORKER

    holders = {Actor(one["name"], one["kind"], tuple(one["roles"])) for one in app.keys.listing() if opens(one)}
    everybody = [*sorted(holders, key=lambda actor: (actor.name, actor.roles)), WORKER]
    found = [actor for actor in everybody if who in (None, actor.name)]
    if not found:
        raise InvalidInput(f"Nobody named {who!r} holds a key.", "name roles instead: --roles approver.")
    return found


def _test(asked: Asked) -> Any:
    cases = asked["cases"].get("expect") if asked["cases"] else _cases_of(asked.app)
    if not isinstance(cases, list) or len(cases) > MOST_CASES:
        raise InvalidInput(
            f"The expectations are no list, or more than {MOST_CASES}.",
            'give {"expect": […]}, or [[expect]] in policies/tests/*.toml',
        )
    return asked.app.governance.policing.policies.test(cases)


def _cases_of(app: App) -> list[Mapping[str, Any]]:
    """The project's own expectations, `policies/tests/*.toml`, in name order."""
    from falaj.policing import POLICIES

    found: list[Mapping[str, Any]] = []
    for path in sorted((app.settings.folder / POLICIES / "tests").glob("*.toml")):
        shown = f"{POLICIES}/tests/{path.name}"
        try:
            if path.stat().st_size > LARGEST:
                raise InvalidInput(f"{shown} is longer than {LARGEST} bytes.", "split it into several files.")
            body = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as exc:
            raise InvalidInput(f"{shown} cannot be read: {exc}.", "write [[expect]] tables.") from exc
        cases = body.get("expect")
        if set(body) != {"expect"} or not isinstance(cases, list):
            raise InvalidInput(f"{shown} holds something else than [[expect]].", "docs/guides/policy.md shows one.")
        found += [{**case, "name": f"{path.stem}: {case.get('name', '')}"} if isinstance(case, dict) else case for case in cases]
    return found


def _simulate(asked: Asked) -> Any:
    app = asked.app
    policing = app.governance.policing
    changed = policing.changed(asked["packs"])
    return policing.policies.simulate(changed, app.kernel.now() - length(asked["span"]), policing.labels)


def _list(asked: Asked) -> Any:
    from falaj.packs import strictest

    app, path = asked.app, asked["values"]
    packs = app.governance.policing.packs if app.settings.policy == "cedar" else ()
    merged, conflicts = strictest(packs)
    shown = [one for name, one in merged.items() if path and (name == path or name.startswith(f"{path}.") or path == "all")]
    return {
        "set": _digest(app),
        "packs": [
            {"pack": p.id, "version": p.version, "title": p.title, "status": p.status, "counsel_signoff": p.counsel_signoff}
            for p in packs
        ],
        "conflicts": [{"path": c.path, "why": c.reason, "packs": [v.pack for v in c.sources]} for c in conflicts],
        "policies": app.governance.policing.listed(),
        "values": [
            {
                "path": one.path, "value": one.value, "status": one.status, "from": one.sources[0].pack,
                "instrument": f"{one.sources[0].instrument} {one.sources[0].article}".strip(),
            }
            for one in shown
        ],
    }  # fmt: skip


def _digest(app: App) -> str:
    return str(app.kernel.rule(Actor("nobody"), "policy.read", Ref("policy", "all")).decision.policy_set)


ABOUT = Anything("ref", "what is asked about, as in model/delay@7", "optional")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "policy",
        "list",
        "The packs and policies in force, whether counsel has signed them, and where packs contradict each other.",
        _list,
        arguments=(Argument("values", "also the packs' values at that path, as in retention, or all"),),
        changes=False,
    ),
    Operation(
        "policy",
        "explain",
        "Who may do what to something and why: which policies decide, and what is missing.",
        _explain,
        ABOUT,
        (
            Argument("verb", "only that, as in model.promote; without it, whatever somebody may"),
            Argument("who", "only the holder of a key of that name"),
            Argument("roles", "somebody with these roles, as in approver,auditor", "list"),
        ),
        changes=False,
    ),
    Operation(
        "policy",
        "test",
        "Whether the policies say what is expected; without cases, what the project's policies/tests/*.toml expect.",
        _test,
        arguments=(Argument("cases", 'expectations as JSON, as in {"expect": [{"verb": …}]}', "object"),),
        changes=False,
    ),
    Operation(
        "policy",
        "simulate",
        "What other packs, or the project's policies as they stand on disk, would have decided on what was done.",
        _simulate,
        arguments=(
            Argument("packs", "instead of those in force, as in ae-baseline,difc", "list"),
            Argument("span", "how far back", "span", "90d"),
        ),
        changes=False,
    ),
)
