"""A decision reads the same in a CI system's test view and in a table for people."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from falaj.core.decision import Check, Decision
from falaj.core.ref import Ref
from falaj.stages.gates.report import junit, markdown

DECISION = Decision(
    Ref("candidate", "delay", "r1"),
    "gate",
    "deny",
    (
        Check("roc_auc", ">= 0.7", "0.75 [0.74, 0.76]", True),
        Check("slices:carrier", "no <slice> & worse", "worst is A|A\nso", False),
        Check("roc_auc_vs_champion", ">= -0.01", "-0.01 [-0.03, 0.01]", None),
    ),
)


def test_junit_has_a_case_for_every_check() -> None:
    suite = ET.fromstring(junit(DECISION))
    assert suite.attrib["tests"] == "3"
    assert suite.attrib["failures"] == suite.attrib["skipped"] == "1"
    assert [len(case) for case in suite] == [0, 1, 1]
    assert [case[0].tag for case in suite if len(case)] == ["failure", "skipped"]
    assert "no <slice> & worse" in suite[1][0].attrib["message"]


def test_markdown_keeps_its_table_whatever_a_check_says() -> None:
    lines = markdown(DECISION).strip().splitlines()
    assert lines[0] == "### gate of candidate/delay@r1: deny"
    assert len(lines) == 7
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines[4:])
    assert "worst is A\\|A so" in lines[5]
    assert lines[5].endswith("FAILED |")
