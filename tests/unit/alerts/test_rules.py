"""The life of an alert, and the messages that it owes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.codec import decode, encode
from falaj.core.errors import Conflict, InvalidInput
from falaj.core.ref import Ref
from falaj.stages.alerts import rules
from falaj.stages.alerts.rules import Alert
from falaj.stages.alerts.spec import Alerting

T0 = datetime(2013, 5, 1, tzinfo=UTC)
REF = Ref("alert", "drift-monitor-delay", "1")


def fresh() -> Alert:
    return rules.opened(REF, "drift|monitor/delay", "temp drifted", severity="warning", facts={}, now=T0)


def test_an_alert_goes_from_open_to_resolved() -> None:
    alert = rules.acknowledged(fresh(), by="person:anna", now=T0)
    alert = rules.resolved(alert, by="person:anna", reason="mended", now=T0)
    assert alert.state == "resolved"
    assert [message.kind for message in alert.outbox] == ["opened", "acknowledged", "resolved"]
    for move in (
        lambda: rules.acknowledged(alert, by="x", now=T0),
        lambda: rules.resolved(alert, by="x", reason="", now=T0),
        lambda: rules.seen_again(alert, title="", facts={}, now=T0),
    ):
        with pytest.raises(Conflict):
            move()


def test_seen_again_is_counted_and_nobody_is_told_twice() -> None:
    alert = rules.seen_again(fresh(), title="worse", facts={}, now=T0 + timedelta(days=1))
    assert (alert.count, alert.last_seen, len(alert.outbox)) == (2, T0 + timedelta(days=1), 1)


def test_acknowledging_twice_is_once() -> None:
    once = rules.acknowledged(fresh(), by="a", now=T0)
    assert rules.acknowledged(once, by="b", now=T0) == once


def test_a_message_that_fails_waits_twice_as_long_each_time_up_to_a_limit() -> None:
    alert, alerting, now, waits = fresh(), Alerting(retry="30s", retry_max="1h"), T0, []
    for _ in range(40):
        (message,) = rules.due(alert, now)
        alert = rules.failed(alert, message.id, error="no answer", now=now, alerting=alerting)
        assert rules.due(alert, now) == []
        due_at = alert.outbox[0].due_at
        assert due_at is not None
        waits.append(due_at - now)
        now = due_at
    assert waits[:3] == [timedelta(seconds=s) for s in (30, 60, 120)]
    assert waits[-1] == timedelta(hours=1)


def test_messages_stay_in_order_behind_one_that_waits() -> None:
    alert = rules.failed(fresh(), f"{REF}.opened", error="x", now=T0, alerting=Alerting())
    alert = rules.resolved(alert, by="a", reason="r", now=T0)
    assert rules.due(alert, T0) == []
    assert [m.kind for m in rules.due(alert, T0 + timedelta(minutes=1))] == ["opened", "resolved"]


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(InvalidInput):
        rules.opened(REF, "k", "t", severity="loud", facts={}, now=T0)


def test_an_alert_survives_the_ledger() -> None:
    alert = rules.sent(rules.acknowledged(fresh(), by="a", now=T0), f"{REF}.opened")
    assert decode(Alert, encode(alert)) == alert


@given(st.text(min_size=1, max_size=120))
def test_any_key_with_a_letter_names_an_alert(key: str) -> None:
    Ref("alert", rules.name_of("a" + key))
