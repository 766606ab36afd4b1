"""One operation that falaj offers, described once: its two words, what it takes, what it asks of policy, and the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from falaj.core.actor import Actor
from falaj.core.errors import InvalidInput, NotFound
from falaj.core.moments import length, moment
from falaj.core.ref import Ref
from falaj.core.wording import a

if TYPE_CHECKING:
    from falaj.app import App


@dataclass(frozen=True, slots=True)
class Argument:
    """One named value: `--since 7d` on the command line, `{"since": "7d"}` over HTTP."""

    name: str
    help: str
    kind: str = "text"
    """text, integer, number, flag, list, object, time, span."""
    default: Any = None
    required: bool = False
    one_of: tuple[str, ...] = ()
    placed: bool = False
    """Whether a command line has it behind its two words, without `--name`. It is required then."""
    hidden: bool = False
    """Never on a command line, where every user of the machine may read it, nor in an address, an answer or a log: a command
    reads it from its standard input, or from the file of `--<name>-file`."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the operation is about. `version`: `none`, `optional` or `needed`."""

    kind: str
    help: str
    version: str = "none"

    def read(self, text: str) -> Ref:
        """`delay@7` or `model/delay@7` as a Ref. Raises InvalidInput for another kind or a version too many or too few."""
        ref = Ref.parse(text if "/" in text else f"{self.kind}/{text}")
        example = f"{self.kind}/{ref.name}" + ("" if self.version == "none" else "@7")
        if ref.kind != self.kind:
            raise InvalidInput(f"{text!r} is a {ref.kind}; this is about a {self.kind}.", f"write it as {example}.")
        if ref.version is None and self.version == "needed":
            raise InvalidInput(f"{text!r} names no version.", f"write it as {example}.")
        if ref.version is not None and self.version == "none":
            raise InvalidInput(f"A {self.kind} has no versions, got {text!r}.", f"write it as {example}.")
        return ref


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation about to be done: for whom, about what, with which values."""

    app: App
    actor: Actor
    about: Ref
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Operation:
    """`falaj <noun> <verb>` = `/v1/<plural>/{subject}:<verb>` = the policy's `<noun>.<verb>`."""

    noun: str
    verb: str
    help: str
    call: Callable[[Asked], Any]
    subject: Subject | None = None
    arguments: tuple[Argument, ...] = ()
    changes: bool = True
    """False: it only reads. Whoever only reads still needs policy's consent, asked before the call."""
    actions: tuple[str, ...] | None = None
    """The `@action` verbs that the call goes through, where they are others than its own two words; () where there is none."""
    plan: Callable[[Asked], Any] | None = None
    """What a dry run shows beside what policy says, where policy allows it. It only reads."""
    asks: str = ""
    """What policy is asked before the call, where that is not `<noun>.read` (of a reading) or its own two words."""

    @property
    def name(self) -> str:
        return f"{self.noun}.{self.verb}"

    @property
    def needs(self) -> tuple[str, ...]:
        """What policy is asked: the verbs of the actions behind it, or what the operation asks itself."""
        if self.asks_itself:
            return (self.asks or (self.name if self.changes else f"{self.noun}.read"),)
        return self.actions or (self.name,)

    @property
    def asks_itself(self) -> bool:
        """Whether no `@action` stands behind it, so that policy has to be asked before the call."""
        return not self.changes or self.actions == ()

    @property
    def method(self) -> str:
        return "POST" if self.changes else "GET"

    @property
    def path(self) -> str:
        """`/v1/models/{subject}:promote`; plain reading needs no verb: `/v1/models`, `/v1/models/{subject}`."""
        place = f"/v1/{plural(self.noun)}" if self.subject or self.verb == "list" else f"/v1/{self.noun}"
        place += "/{subject}" if self.subject else ""
        return place if not self.changes and self.verb in ("list", "show") else f"{place}:{self.verb}"

    def about(self, text: str | None) -> Ref:
        """The subject that was named, or the installation itself."""
        if self.subject is None:
            return Ref(self.noun, "all")
        if not text:
            raise InvalidInput(f"{self.noun} {self.verb} needs to know which {self.subject.kind}.", self.subject.help)
        return self.subject.read(text)

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every argument's value, defaults filled in. Raises NotFound for an unknown one, InvalidInput for an unfit value."""
        known = {argument.name: argument for argument in self.arguments}
        for name in given:
            if name not in known:
                raise InvalidInput(*_unknown(self, name, list(known)))
        return {name: value_of(argument, given.get(name)) for name, argument in known.items()}

    def do(self, app: App, actor: Actor, subject: str | None, given: Mapping[str, Any]) -> Any:
        """Asks policy at the door, before anything is looked up or read for whoever may not; the action behind it asks again."""
        about = self.about(subject)
        for verb in self.needs:
            app.kernel.ask(actor, verb, about)
        return self.call(Asked(app, actor, about, self.read(given)))

    def foresee(self, app: App, actor: Actor, subject: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """What policy would say and what would be recorded; nothing is done."""
        about, values = self.about(subject), self.read(given)
        rulings = [app.kernel.rule(actor, verb, about).decision for verb in self.needs]
        is_planned = self.plan is not None and all(ruling.allowed for ruling in rulings)
        return {
            "dry_run": True,
            "policy": rulings,
            "would_record": [{"verb": verb, "subject": about, "actor": str(actor)} for verb in self.needs]
            if self.changes
            else [],
            "arguments": {a.name: HIDDEN if a.hidden else values[a.name] for a in self.arguments},
            **({"plan": self.plan(Asked(app, actor, about, values))} if self.plan is not None and is_planned else {}),
        }


HIDDEN = "(hidden)"


def plural(noun: str) -> str:
    """`model` → `models`; words that only exist once stay as they are."""
    return noun if noun in _ONLY_ONE else noun[:-1] + "ies" if noun.endswith("y") and noun != "key" else noun + "s"


def value_of(argument: Argument, given: Any) -> Any:
    """A given text or JSON value as the argument's kind. Raises InvalidInput where it is none."""
    if given is None or (given is False and argument.kind == "flag"):
        if argument.required:
            raise InvalidInput(f"The argument {argument.name!r} is missing.", argument.help)
        return argument.default if given is None else False
    try:
        value = _KINDS[argument.kind](given)
    except (ValueError, TypeError) as exc:
        seen = "" if argument.hidden else f", got {given!r}"
        raise InvalidInput(f"The argument {argument.name!r} must be {a(argument.kind)}{seen}.", argument.help) from exc
    if argument.one_of and value not in argument.one_of:
        raise InvalidInput(
            f"The argument {argument.name!r} must be one of {', '.join(argument.one_of)}, got {given!r}.", argument.help
        )
    return value


def _unknown(operation: Operation, name: str, known: list[str]) -> tuple[str, str]:
    near = NotFound.named("argument", name, known)
    return f"{operation.noun} {operation.verb} takes no argument {name!r}.", near.hint


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(given)
    return given


def _integer(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise TypeError(given)
    return int(given)


def _number(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise TypeError(given)
    return float(given)


def _flag(given: Any) -> bool:
    flags = {True: True, "true": True, "false": False}
    if not isinstance(given, (bool, str)) or given not in flags:
        raise ValueError(given)
    return flags[given]


def _list(given: Any) -> tuple[str, ...]:
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, (list, tuple)):
        raise TypeError(given)
    return tuple(_text(item).strip() for item in items if item)


def _object(given: Any) -> dict[str, Any]:
    import json

    body = json.loads(given) if isinstance(given, str) else given
    if not isinstance(body, dict):
        raise TypeError(given)
    return body


_ONLY_ONE = frozenset({"access", "audit", "config", "evidence", "lineage", "privacy", "retention", "status", "worker", "report"})
_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "list": _list,
    "object": _object,
    "time": moment,
    "span": length,
}
