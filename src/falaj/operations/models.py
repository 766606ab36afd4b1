"""What can be done with models: train, evaluate, register, promote, take back, read."""

from __future__ import annotations

from typing import Any

from falaj.core.errors import InvalidInput
from falaj.operations.operation import Argument, Asked, Operation, Subject

MODEL = Subject("model", "a model, as in delay")
VERSION = Subject("model", "a registered version, as in delay@7", "needed")
EITHER = Subject("model", "a model or one of its versions, as in delay or delay@7", "optional")


def _list(asked: Asked) -> Any:
    aliases: dict[str, list[str]] = {}
    for key, alias in asked.app.ledger.find("alias"):
        aliases.setdefault(str(alias["model"]), []).append(key.partition("@")[2])
    shown = ("gate", "training", "metrics", "created_at")
    return [
        {"model": body["ref"], "aliases": aliases.get(str(body["ref"]), []), **{name: body.get(name) for name in shown}}
        for body in asked.app.registry.listing(asked["name"] or "")
    ]


def _show(asked: Asked) -> Any:
    """A version may be an alias, as in delay@champion; without any, the champion is meant."""
    registry, ledger = asked.app.registry, asked.app.ledger
    model = registry.resolve(str(asked.about if asked.about.version else asked.about.at("champion")))
    key = f"{model.name}@{model.version}"
    told = {"standing": ledger.get("standing", key), "learned_from_erased": ledger.get("affected", key)}
    return {**registry.get(model), **{name: body for name, body in told.items() if body is not None}}


def _train(asked: Asked) -> Any:
    app, name = asked.app, asked.about.name
    mine = [training.name for training in app.project.trainings.values() if training.model == name]
    if asked["training"] is None and len(mine) != 1:
        raise InvalidInput(f"Which training of model/{name}?", f"--training one of: {', '.join(mine) or 'none is declared'}.")
    training = app.project.one("trainings", asked["training"] or mine[0])
    at = asked["at"] or app.kernel.now()
    run_id = app.pipelines.fresh_id("train", {"training": training.name, "at": at})
    return app.trainer.train(asked.actor, asked.about, training=training.name, at=at, run_id=run_id)


def _evaluate(asked: Asked) -> Any:
    return asked.app.gates.evaluate(asked.actor, asked.about, gate=asked.app.project.one("gates", asked["gate"]))


def _register(asked: Asked) -> Any:
    app = asked.app
    candidate = Subject("candidate", "what a training made, as in candidate/delay@train-1a2b", "needed").read(asked["candidate"])
    decision = app.gates.decision(candidate)
    return app.registry.register(asked.actor, asked.about, candidate=candidate, decision=decision)


def _score(asked: Asked) -> Any:
    from falaj.scoring import model_of, score

    endpoint = str(asked["endpoint"] or "").removeprefix("endpoint/")
    model = model_of(asked.app, str(asked.about), endpoint)
    named = ("input", "dataset", "since", "until", "output", "features", "carry")
    given = {name: asked[name] for name in named} | {"endpoint": endpoint}
    scores = score(asked.app, asked.actor, model, given)
    body = asked.app.ledger.get("asset", str(scores)) or {}
    shown = ("rows", "problems", "parts", "plan")
    return {
        "scores": str(scores), "model": str(model), "output": asked["output"], "digest": body.get("digest"),
        **{name: body.get("labels", {}).get(name) for name in shown}, "run": body.get("run"),
    }  # fmt: skip


def _promote(asked: Asked) -> Any:
    return asked.app.registry.promote(asked.actor, asked.about, alias=asked["alias"], reason=asked["reason"])


def _rollback(asked: Asked) -> Any:
    return asked.app.registry.rollback(asked.actor, asked.about, alias=asked["alias"], reason=asked["reason"])


_ALIAS = Argument("alias", "the name that is to point there", default="champion")
_REASON = Argument("reason", "why, for whoever asks later", required=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "model",
        "list",
        "Every registered version, its aliases and what its gate said.",
        _list,
        arguments=(Argument("name", "only versions of that model"),),
        changes=False,
    ),
    Operation(
        "model",
        "show",
        "One version: manifest, metrics, gate, mirror. Without a version, the champion.",
        _show,
        EITHER,
        changes=False,
    ),
    Operation(
        "model",
        "train",
        "Trains a candidate here and now; `run start` does it where the runner is.",
        _train,
        MODEL,
        (
            Argument("training", "which training, where the model has more than one"),
            Argument("at", "as if it were that time: nothing later is used (default: now)", "time"),
        ),
    ),
    Operation(
        "model",
        "evaluate",
        "Asks the gates about a candidate.",
        _evaluate,
        Subject("candidate", "what a training made", "needed"),
        (Argument("gate", "which declared gate, by its model", required=True),),
    ),
    Operation(
        "model",
        "register",
        "Signs a candidate that its gates allowed, and gives it the next version.",
        _register,
        MODEL,
        (Argument("candidate", "what a training made", required=True),),
    ),
    Operation(
        "model",
        "score",
        "Scores a Parquet file, a folder of them or a period of a dataset, into Parquet files.",
        _score,
        EITHER,
        (
            Argument("output", "a folder of its own in the project, for the scores", required=True),
            Argument("input", "a Parquet file in the project's folder, or a folder of them"),
            Argument("dataset", "a dataset instead of a file"),
            Argument("since", "of a dataset: rows after that time", "time"),
            Argument("until", "of a dataset: rows up to that time (default: now)", "time"),
            Argument(
                "features",
                "as of each row's own time, or as the online store has them now",
                default="as_of",
                one_of=("as_of", "online"),
            ),
            Argument(
                "carry", "columns that go into the output (default: the time and all that the model does not read)", "list", ()
            ),
            Argument("endpoint", "its champion and its threshold, instead of the version that is named"),
        ),
    ),
    Operation("model", "promote", "Points an alias at a version that its gates allowed.", _promote, VERSION, (_ALIAS, _REASON)),
    Operation("model", "rollback", "Points an alias back at the version before.", _rollback, MODEL, (_ALIAS, _REASON)),
)
