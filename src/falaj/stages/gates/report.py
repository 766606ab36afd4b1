"""Gate decisions as JUnit XML, for the test view of any CI system, and as Markdown, for a person."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from falaj.core.decision import Check, Decision

_WORDS = {True: "passed", False: "FAILED", None: "not enough data"}


def junit(decision: Decision) -> str:
    """One test case a check; what could not be seen is skipped, with its reason."""
    failed = [check for check in decision.checks if check.passed is False]
    unseen = [check for check in decision.checks if check.passed is None]
    counts = {"tests": str(len(decision.checks)), "failures": str(len(failed)), "skipped": str(len(unseen))}
    suite = ET.Element("testsuite", {"name": f"{decision.rule} {decision.subject}", **counts})
    for check in decision.checks:
        case = ET.SubElement(suite, "testcase", {"classname": str(decision.subject), "name": check.name})
        if check.passed is not True:
            kind = "failure" if check.passed is False else "skipped"
            ET.SubElement(case, kind, {"message": f"wanted {check.wanted}, seen {check.seen}"})
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def markdown(decision: Decision) -> str:
    """A heading with the verdict and one row a check."""
    rows = "\n".join(_row(check) for check in decision.checks)
    head = f"### {decision.rule} of {decision.subject}: {decision.verdict}"
    return f"{head}\n\n| check | wanted | seen | |\n|---|---|---|---|\n{rows}\n"


def _row(check: Check) -> str:
    cells = (check.name, check.wanted, check.seen, _WORDS[check.passed])
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
