"""The model card: what a version is, for whom it is meant, what it was made of and how good it was, for people and as JSON.

After Mitchell et al., "Model Cards for Model Reporting" (2019). Headings are in English and in Arabic; what nobody has said is
said to be missing, and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from falaj.core.moments import iso
from falaj.stages.governance.evidence.gather import Gathered

Body = Mapping[str, Any]
MISSING = "missing"
HEADINGS: Mapping[str, tuple[str, str]] = {
    "model": ("The model", "النموذج"),
    "use": ("Intended use and people", "الاستخدام المقصود والمسؤولون"),
    "training": ("Training", "التدريب"),
    "data": ("Data", "البيانات"),
    "figures": ("Figures on the sealed holdout", "نتائج القياس"),
    "tests": ("Gates and tests", "الاختبارات"),
    "approvals": ("Approvals and objections", "الموافقات والاعتراضات"),
    "use_in_production": ("In production", "التشغيل"),
    "overdue": ("Overdue", "المتأخرات"),
}
"""Part of the card → its heading in English and in Arabic."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}"
    "h2{display:flex;justify-content:space-between;border-bottom:1px solid #ccc}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #eee;padding:.25rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
)


def card(found: Gathered, row: Body) -> dict[str, Any]:
    """By the parts of HEADINGS. `row`: the version's row of the inventory."""
    record, asset = found.record, found.record["asset"]
    labels = asset.get("labels") or {}
    gate = found.cite("decision", f"{record.get('candidate')}|gate")
    return {
        "model": {
            "name": str(found.model), "id": row["id"], "weights": asset["digest"], "format": labels.get("format", "onnx"),
            "bytes": labels.get("size"), "tier": row["tier"] or MISSING, "risk": row["risk"] or MISSING,
        },
        "use": {
            "purpose": row["purpose"] or MISSING, "purposes": row["purposes"] or MISSING, "owner": row["owner"] or MISSING,
            "human oversight": row["oversight"] or MISSING, "lawful basis": row["lawful_basis"] or MISSING,
            "decision threshold": labels.get("threshold"),
        },
        "training": {
            "training": labels.get("training"), "as of": labels.get("at"), "run": record.get("run"), "code": labels.get("code"),
            "environment": labels.get("environment"), "seed": labels.get("seed"), "parameters": labels.get("params"),
            "rows": labels.get("rows"), "recipe": labels.get("recipe"), "inputs": labels.get("columns"),
        },
        "data": [_snapshot(found, ref) for ref in found.snapshots],
        "figures": dict(record.get("metrics") or {}),
        "tests": [
            *(_checks(gate["body"]) if gate else [{"test": "gate", "wanted": "a decision", "seen": MISSING, "passed": None}]),
            *(_test(kind, test) for kind, test in sorted(row["tests"].items())),
        ],
        "approvals": [
            _said(found, kind, key) for kind in ("approval", "objection") for key in found.keys(kind, f"{found.model}|")
        ],
        "use_in_production": [
            {
                "endpoint": term.endpoint, "role": term.role, "since": iso(term.since), "by": term.by,
                "until": iso(term.until) if term.until else "now",
            }
            for term in found.terms
        ],
        "overdue": row["overdue"],
    }  # fmt: skip


def markdown(shown: Body) -> str:
    """The same as Markdown, headings in both languages."""
    parts = [f"# Model card: {shown['model']['name']}", f"بطاقة النموذج: {shown['model']['name']}"]
    for name, (english, arabic) in HEADINGS.items():
        parts += [f"## {english} · {arabic}", "\n".join(_lines(shown[name]))]
    return "\n\n".join(parts) + "\n"


def page(shown: Body, checkpoint: Body) -> str:
    """One page of HTML without scripts and without anything from elsewhere. `checkpoint`: origin and size of the ledger."""
    name = escape(str(shown["model"]["name"]))
    parts = [
        f"<h1>{name}</h1>",
        f"<p>Evidence from the ledger <code>{escape(str(checkpoint['origin']))}</code>, as of {checkpoint['size']} events. "
        "Run <code>python -I verify.py --vkey &lt;the ledger's key&gt;</code> to check all of it.</p>",
        f'<p lang="ar" dir="rtl">أدلة من السجل، حتى {checkpoint["size"]} حدثًا.</p>',
    ]
    for part, (english, arabic) in HEADINGS.items():
        parts.append(f'<h2><span>{english}</span><span lang="ar" dir="rtl">{arabic}</span></h2>')
        parts.append(_table(shown[part]))
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
    return head + "<body>" + "\n".join(parts) + "</body></html>\n"


def _snapshot(found: Gathered, ref: str) -> dict[str, Any]:
    body = found.state.records.get(("asset", ref)) or {}
    labels = body.get("labels") or {}
    names = ("rows", "since", "until", "classification", "column_classes", "owner", "contract")
    return {"snapshot": ref, "digest": body.get("digest"), "zone": body.get("zone"), **{name: labels.get(name) for name in names}}


def _checks(decision: Body) -> Iterator[dict[str, Any]]:
    for check in decision["checks"]:
        yield {"test": check["name"], "wanted": check["wanted"], "seen": check["seen"], "passed": check["passed"]}


def _test(kind: str, test: Body) -> dict[str, Any]:
    return {"test": kind, "wanted": "passed", "seen": f"report {test['report']}", "passed": test["verdict"] == "allow"}


def _said(found: Gathered, kind: str, key: str) -> dict[str, Any]:
    body = found.state.records[kind, key]
    return {"what": kind, "by": body.get("name"), "role": body.get("role"), "at": body.get("at"), "reason": body.get("reason")}


def _lines(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        yield from (f"- **{name}**: {_text(value)}" for name, value in part.items())
    elif not part:
        yield "none · لا يوجد"
    else:
        yield from ("- " + "; ".join(f"{name}: {_text(value)}" for name, value in item.items()) for item in part)


def _table(part: Any) -> str:
    if isinstance(part, Mapping):
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>" for name, value in part.items())
        return f"<table>{rows}</table>"
    if not part:
        return '<p>none · <span lang="ar">لا يوجد</span></p>'
    names = list(dict.fromkeys(name for item in part for name in item))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(_text(item.get(name)))}</td>" for name in names) + "</tr>" for item in part)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    if value is None or isinstance(value, bool):
        return {None: "not known", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
