"""What can be done with what is served: endpoints, rollouts, monitors, alerts."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import NotFound
from falaj.operations import traffic
from falaj.operations.operation import Argument, Asked, Operation, Subject

ENDPOINT = Subject("endpoint", "an endpoint that the project declares, as in delay")
ROLLOUT = Subject("rollout", "one rollout, as in delay@2", "needed")
ALERT = Subject("alert", "one alert; falaj alert list shows them", "needed")
MONITOR = Subject("monitor", "a monitor that the project declares, as in delay")
VERSION = Subject("model", "a registered version, as in delay@7", "needed")


def _list_endpoints(asked: Asked) -> Any:
    return [_endpoint(asked, name) for name, _ in asked.app.ledger.find("endpoint")]


def _show_endpoint(asked: Asked) -> Any:
    name = asked.about.name
    if asked.app.ledger.get("endpoint", name) is None:
        asked.app.project.one("endpoints", name)
        raise NotFound(
            f"Nothing is served on endpoint/{name} yet.", f"falaj endpoint deploy {name} --model <model> --reason <why>"
        )
    return _endpoint(asked, name)


def _endpoint(asked: Asked, name: str) -> dict[str, Any]:
    record = asked.app.ledger.get("endpoint", name) or {}
    try:
        seen: Any = asked.app.host.look(name)
    except NotFound:
        seen = None
    under_way = {kind: record.get(kind) for kind in ("rollout", "experiment")}
    return {"endpoint": f"endpoint/{name}", "wanted": record.get("wanted"), "seen": seen, **under_way}


def _deploy(asked: Asked) -> Any:
    return asked.app.rollouts.deploy(asked.actor, asked.about, model=VERSION.read(asked["model"]), reason=asked["reason"])


def _list_rollouts(asked: Asked) -> Any:
    return [
        {
            "rollout": body["ref"],
            "champion": body["champion"],
            "challenger": body["challenger"],
            "state": body["status"]["state"],
            "started_at": body["started_at"],
            "ended_at": body["ended_at"],
        }
        for _, body in asked.app.ledger.find("rollout")
    ]


def _start_rollout(asked: Asked) -> Any:
    return asked.app.rollouts.start(asked.actor, asked.about, challenger=VERSION.read(asked["challenger"]), seed=asked["seed"])


def _abort(asked: Asked) -> Any:
    return asked.app.rollouts.abort(asked.actor, asked.about, reason=asked["reason"])


def _list_monitors(asked: Asked) -> Any:
    return [{"monitor": name, **body} for name, body in asked.app.ledger.find("monitor")]


def _show_monitor(asked: Asked) -> Any:
    body = asked.app.ledger.get("monitor", asked.about.name)
    if body is None:
        asked.app.project.one("monitors", asked.about.name)
        raise NotFound(f"{asked.about} has seen nothing yet.", "it starts when its endpoint serves: falaj endpoint show.")
    return body


def _list_alerts(asked: Asked) -> Any:
    wanted = asked["state"]
    return [
        {"alert": alert.ref, "state": alert.state, "severity": alert.severity, "title": alert.title, "count": alert.count}
        for alert in asked.app.alerts.all()
        if wanted in (None, alert.state)
    ]


def _show_alert(asked: Asked) -> Any:
    found = {str(alert.ref): alert for alert in asked.app.alerts.all()}
    if str(asked.about) not in found:
        raise NotFound.named("alert", str(asked.about), found)
    return found[str(asked.about)]


def _acknowledge(asked: Asked) -> Any:
    asked.app.alerts.acknowledge(asked.actor, asked.about)
    return _show_alert(asked)


def _resolve(asked: Asked) -> Any:
    asked.app.alerts.resolve(asked.actor, asked.about, reason=asked["reason"])
    return _show_alert(asked)


_REASON = Argument("reason", "why, for whoever asks later", required=True)
_SEED = Argument("seed", "makes the split another one", "integer", 0)

OPERATIONS: tuple[Operation, ...] = (
    Operation("endpoint", "list", "What every endpoint is to serve, and what it serves.", _list_endpoints, changes=False),
    Operation("endpoint", "show", "What one endpoint is to serve, and what it serves.", _show_endpoint, ENDPOINT, changes=False),
    Operation(
        "endpoint",
        "deploy",
        "Serves a model to everybody at once, on the responsibility of whoever asks.",
        _deploy,
        ENDPOINT,
        (Argument("model", "a registered version, as in delay@7", required=True), _REASON),
    ),
    *traffic.OPERATIONS,
    Operation("rollout", "list", "Every rollout and how it ended.", _list_rollouts, changes=False),
    Operation(
        "rollout",
        "show",
        "One rollout: its steps, and the evidence for and against.",
        lambda a: a.app.rollouts.show(a.about),
        ROLLOUT,
        changes=False,
    ),
    Operation(
        "rollout",
        "start",
        "Gives a challenger its first share of an endpoint.",
        _start_rollout,
        ENDPOINT,
        (Argument("challenger", "a registered version, as in delay@8", required=True), _SEED),
    ),
    Operation("rollout", "abort", "Gives everything back to the champion, on somebody's word.", _abort, ROLLOUT, (_REASON,)),
    Operation("monitor", "list", "What every monitor has seen.", _list_monitors, changes=False),
    Operation("monitor", "show", "What one monitor has seen, and what it compares with.", _show_monitor, MONITOR, changes=False),
    Operation(
        "alert",
        "list",
        "Every alert.",
        _list_alerts,
        arguments=(Argument("state", "only those in that state", one_of=("opened", "acknowledged", "resolved")),),
        changes=False,
    ),
    Operation("alert", "show", "One alert: what was seen, and what to do.", _show_alert, ALERT, changes=False),
    Operation("alert", "acknowledge", "Says that somebody has seen it.", _acknowledge, ALERT),
    Operation("alert", "resolve", "Says that it is over.", _resolve, ALERT, (_REASON,)),
)
