"""What can be done about who is answered by which model: switch, take back, split, shadow, and read what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref
from falaj.operations.operation import Argument, Asked, Operation, Subject

ENDPOINT = Subject("endpoint", "an endpoint that the project declares, as in delay")
EXPERIMENT = Subject("experiment", "one A/B test, as in delay@1", "needed")
SHADOW = Subject("endpoint", "an endpoint that has, or had, a shadow, as in delay")
VERSION = Subject("model", "a registered version, as in delay@7", "needed")


def _prepare(asked: Asked) -> Any:
    return asked.app.rollouts.switches.prepare(
        asked.actor, asked.about, model=VERSION.read(asked["model"]), reason=asked["reason"]
    )


def _switch(asked: Asked) -> Any:
    return asked.app.rollouts.switches.switch(
        asked.actor, asked.about, model=VERSION.read(asked["model"]), reason=asked["reason"]
    )


def _rollback(asked: Asked) -> Any:
    leaving = VERSION.read(asked["leaving"]) if asked["leaving"] else None
    return asked.app.rollouts.switches.rollback(asked.actor, asked.about, reason=asked["reason"], leaving=leaving)


def _drop(asked: Asked) -> Any:
    return asked.app.rollouts.switches.drop(asked.actor, asked.about, reason=asked["reason"])


def _split(asked: Asked) -> Any:
    variants: Mapping[str, Ref] = {name: VERSION.read(text) for name, text in _pairs(asked["variants"], "b=delay@8").items()}
    return asked.app.rollouts.experiments.split(
        asked.actor,
        asked.about,
        variants=variants,
        weights=_weights(asked["weights"]),
        reason=asked["reason"],
        seed=asked["seed"],
    )


def _weigh(asked: Asked) -> Any:
    return asked.app.rollouts.experiments.weigh(
        asked.actor, asked.about, weights=_weights(asked["weights"]), reason=asked["reason"]
    )


def _unsplit(asked: Asked) -> Any:
    return asked.app.rollouts.experiments.unsplit(asked.actor, asked.about, winner=asked["winner"], reason=asked["reason"])


def _list_experiments(asked: Asked) -> Any:
    shown = ("champion", "weights", "started_at", "ended_at", "winner")
    return [
        {"experiment": body["ref"], **{name: body[name] for name in shown}} for _, body in asked.app.ledger.find("experiment")
    ]


def _shadow(asked: Asked) -> Any:
    return asked.app.rollouts.shadows.shadow(
        asked.actor, asked.about, model=VERSION.read(asked["model"]), share=asked["share"], reason=asked["reason"]
    )


def _unshadow(asked: Asked) -> Any:
    return asked.app.rollouts.shadows.unshadow(asked.actor, asked.about, reason=asked["reason"])


def _show_shadow(asked: Asked) -> Any:
    """Of the model that is asked for, else of the one that is, or was last, the shadow there."""
    from falaj.stages.monitoring.shadow import report_of

    endpoint = asked.app.project.one("endpoints", asked.about.name)
    records = (record for _, record in asked.app.predictions_of(endpoint.name).follow())
    model = str(VERSION.read(asked["model"])) if asked["model"] else ""
    return report_of(records, threshold=endpoint.threshold, model=model)


def _pairs(items: Sequence[str], example: str) -> dict[str, str]:
    """`b=delay@8` → {"b": "delay@8"}."""
    pairs: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name or not text or name in pairs:
            raise InvalidInput(f"{item!r} is not a name and what it gets.", f"write each name once, as in {example}.")
        pairs[name] = text
    return pairs


def _weights(items: Sequence[str]) -> dict[str, float]:
    weights = {}
    for name, text in _pairs(items, "b=0.3").items():
        try:
            weights[name] = float(text)
        except ValueError as exc:
            raise InvalidInput(f"The weight {text!r} of {name!r} is no number.", "write it as b=0.3.") from exc
    return weights


_REASON = Argument("reason", "why, for whoever asks later", required=True)
_SEED = Argument("seed", "makes the split another one", "integer", 0)
_MODEL = Argument("model", "a registered version, as in delay@8", required=True)
_WEIGHTS = Argument(
    "weights", "each variant's share of the units, as in b=0.3,c=0.2; the champion has the rest", "list", required=True
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "endpoint",
        "prepare",
        "Loads a model as the warm standby, which answers nobody yet.",
        _prepare,
        ENDPOINT,
        (_MODEL, _REASON),
    ),
    Operation(
        "endpoint",
        "switch",
        "Lets the standby answer everybody, at once; the champion stays warm.",
        _switch,
        ENDPOINT,
        (_MODEL, _REASON),
    ),
    Operation(
        "endpoint",
        "rollback",
        "Lets the champion of before answer again: at once if it is the standby, else once it is loaded.",
        _rollback,
        ENDPOINT,
        (_REASON, Argument("leaving", "go back only if that version answers now, as in delay@8")),
    ),
    Operation("endpoint", "drop", "Lets the standby go.", _drop, ENDPOINT, (_REASON,)),
    Operation(
        "endpoint",
        "split",
        "Begins an A/B test: each variant answers its share of the units.",
        _split,
        ENDPOINT,
        (Argument("variants", "names and models, as in b=delay@8,c=delay@9", "list", required=True), _WEIGHTS, _REASON, _SEED),
    ),
    Operation("endpoint", "weigh", "Changes the weights of an A/B test.", _weigh, ENDPOINT, (_WEIGHTS, _REASON)),
    Operation(
        "endpoint",
        "unsplit",
        "Ends an A/B test: the winner answers everybody.",
        _unsplit,
        ENDPOINT,
        (Argument("winner", "a variant's name, or champion", required=True), _REASON),
    ),
    Operation(
        "endpoint",
        "shadow",
        "Copies requests to a model that answers nobody, and logs what it would have said.",
        _shadow,
        ENDPOINT,
        (_MODEL, Argument("share", "of the units, 0.0001 to 1", "number", 1.0), _REASON),
    ),
    Operation("endpoint", "unshadow", "Lets the shadow go; what it said stays in the log.", _unshadow, ENDPOINT, (_REASON,)),
    Operation("experiment", "list", "Every A/B test and how it ended.", _list_experiments, changes=False),
    Operation(
        "experiment",
        "show",
        "One A/B test: its variants, its weights over time, its winner.",
        lambda a: a.app.rollouts.experiments.show(a.about),
        EXPERIMENT,
        changes=False,
    ),
    Operation(
        "shadow",
        "show",
        "How a shadow's scores differ from the answers, from the prediction log.",
        _show_shadow,
        SHADOW,
        (Argument("model", "a version that was a shadow before"),),
        changes=False,
    ),
)
