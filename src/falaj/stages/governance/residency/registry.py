"""The registry of zones, regions and classes that falaj brings, read and checked as one."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from falaj.core.errors import InvalidInput, NotFound
from falaj.core.places import UNKNOWN

STATUSES = ("enacted", "guidance", "assumed", "pending", "unverified")
GRADES = ("P", "Q", "S", "M", "X")
VIEWS = ("adequate", "abroad")
HOME, ANY = "home", "any"


@dataclass(frozen=True, slots=True)
class View:
    """What one zone's law says of another zone."""

    view: str
    source: str
    status: str


@dataclass(frozen=True, slots=True)
class Zone:
    name: str
    country: str
    """ISO 3166, or empty where it is not one country."""
    place: str
    regime: str
    sees: Mapping[str, View] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Region:
    """A cloud's region, `provider:code`. `zone` is empty where only a project can say it."""

    id: str
    place: str
    zone: str
    label: str
    status: str
    grade: str
    note: str


@dataclass(frozen=True, slots=True)
class ClassRule:
    """Where data of a class may be; see residency.toml."""

    name: str
    allow: tuple[str, ...]
    within_home: bool
    transferable: bool
    conditions: tuple[str, ...]
    instrument: str
    status: str

    def allows(self, zone: str, home: str) -> bool:
        """Whether it may be in a known zone without anybody's leave."""
        named = ANY in self.allow or zone in self.allow or (HOME in self.allow and zone == home)
        return named and (zone == home or not self.within_home)


@dataclass(frozen=True, slots=True)
class Registry:
    zones: Mapping[str, Zone]
    regions: Mapping[str, Region]
    classes: Mapping[str, ClassRule]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def zone_of(self, text: str) -> str:
        """The zone that `uae-onshore` or `aws:me-central-1` names.

        Raises NotFound with the nearest names, InvalidInput for a label that two places carry and for a region whose zone only
        a project can say.
        """
        if text in self.zones:
            return text
        region = self.regions.get(text) or self.regions.get(f"{text.partition(':')[0]}:*")
        if region is not None:
            if not region.zone:
                raise InvalidInput(f"The zone of {text} is in no list: {region.note}", 'write "<network>" = "uae-onshore".')
            return region.zone
        labelled = sorted(r.id for r in self.regions.values() if r.label and r.label.casefold() == text.casefold())
        if labelled:
            raise InvalidInput(f"{text!r} is a label, of {' and '.join(labelled)}.", f"write {labelled[0]}.")
        raise NotFound.named("zone or region", text, [*self.zones, *self.regions])

    def zone_of_region(self, provider: str, code: str) -> str:
        """Unknown where the registry does not have it."""
        region = self.regions.get(f"{provider}:{code}")
        return region.zone if region is not None and region.zone else UNKNOWN

    def class_of(self, word: str) -> str:
        """The class that a contract's word means; a word that means none stays as it is, and no rule allows it."""
        plain = word.strip().lower().replace("_", "-").replace(" ", "-")
        return plain if plain in self.classes else self.aliases.get(plain, plain)

    def sees(self, home: str, other: str) -> str:
        """`home`, `adequate` or `abroad`: what the law at home says of another zone."""
        if home == other:
            return HOME
        zone = self.zones.get(home)
        seen = zone.sees.get(other) if zone is not None else None
        return seen.view if seen is not None else "abroad"


def tightened(known: Registry, allowed: Mapping[str, Iterable[Collection[str]]]) -> Registry:
    """The registry where each class may be only in zones that its rule and every one of these lists name. Nothing widens."""
    rules = dict(known.classes)
    for word, lists in allowed.items():
        rule = rules.get(known.class_of(word))
        if rule is None:
            continue  # a class that no rule knows is allowed nowhere as it is
        at_home = [zone for zone in known.zones if all(zone in one for one in lists)]
        named = known.zones if ANY in rule.allow or HOME in rule.allow else rule.allow
        keep = tuple(zone for zone in at_home if zone in named)
        rules[rule.name] = replace(rule, allow=keep, within_home=rule.within_home or HOME in rule.allow)
    return replace(known, classes=rules)


@cache
def registry() -> Registry:
    """What falaj brings. Raises InvalidInput where the files in the package are damaged."""
    folder = files(__package__)
    texts = {name: folder.joinpath(f"{name}.toml").read_text("utf-8") for name in ("zones", "regions", "residency")}
    return read_registry(**texts)


def read_registry(*, zones: str, regions: str, residency: str) -> Registry:
    """From the texts of the three files. Raises InvalidInput, which names the entry that is wrong."""
    read = {name: _table(text, name) for name, text in (("zones", zones), ("regions", regions), ("residency", residency))}
    found = {name: _zone(name, body) for name, body in _entries(read["zones"], "zones")}
    places = {name: _region(name, body, found) for name, body in _entries(read["regions"], "regions")}
    rules = {name: _class(name, body, found) for name, body in _entries(read["residency"], "classes")}
    for zone in found.values():
        for other in zone.sees:
            _need(other in found and other != zone.name, f"zones.{zone.name}.sees.{other}", "another zone")
    aliases = read["residency"].get("aliases", {})
    _need(
        isinstance(aliases, dict) and all(word in list(rules) for word in aliases.values()), "aliases", "classes that there are"
    )
    _need("unclassified" in rules, "classes", "unclassified among them")
    return Registry(found, places, rules, aliases)


def _table(text: str, file: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidInput(f"{file}.toml cannot be read: {exc}.", "install falaj anew.") from exc


def _entries(read: Mapping[str, Any], what: str) -> list[tuple[str, Mapping[str, Any]]]:
    table = read.get(what)
    _need(isinstance(table, dict) and bool(table), what, "a table with entries")
    assert isinstance(table, dict)
    for name, body in table.items():
        _need(isinstance(body, dict), f"{what}.{name}", "a table")
    return list(table.items())


def _zone(name: str, body: Mapping[str, Any]) -> Zone:
    where = f"zones.{name}"
    _only(body, where, ("country", "place", "regime"), ("sees",))
    sees = body.get("sees", {})
    _need(isinstance(sees, dict) and all(isinstance(view, dict) for view in sees.values()), f"{where}.sees", "tables")
    for other, view in sees.items():
        _only(view, f"{where}.sees.{other}", ("view", "source", "status"))
        _need(view["view"] in VIEWS, f"{where}.sees.{other}.view", f"one of {', '.join(VIEWS)}")
        _need(view["status"] in STATUSES, f"{where}.sees.{other}.status", f"one of {', '.join(STATUSES)}")
    _texts(body, where, ("country", "place", "regime"))
    return Zone(name, body["country"], body["place"], body["regime"], {other: View(**view) for other, view in sees.items()})


def _region(name: str, body: Mapping[str, Any], zones: Mapping[str, Zone]) -> Region:
    where, fields = f"regions.{name}", ("place", "zone", "label", "status", "grade", "note")
    _only(body, where, fields)
    _texts(body, where, fields)
    _need(":" in name, where, "provider:code")
    _need(body["status"] in ("listed", "manual"), f"{where}.status", "listed or manual")
    _need(body["grade"] in GRADES, f"{where}.grade", f"one of {', '.join(GRADES)}")
    # A region whose place nobody can look up must not be given a zone here, or a guess would count as a list.
    _need(body["zone"] in zones if body["status"] == "listed" else body["zone"] == "", f"{where}.zone", "a zone of zones.toml")
    return Region(id=name, **body)


def _class(name: str, body: Mapping[str, Any], zones: Mapping[str, Zone]) -> ClassRule:
    where = f"classes.{name}"
    _only(body, where, ("allow", "within_home", "transferable", "conditions", "instrument", "status"))
    for field_name in ("allow", "conditions"):
        given = body[field_name]
        _need(isinstance(given, list) and all(isinstance(one, str) for one in given), f"{where}.{field_name}", "a list of texts")
    for field_name in ("within_home", "transferable"):
        _need(isinstance(body[field_name], bool), f"{where}.{field_name}", "true or false")
    _texts(body, where, ("instrument", "status"))
    _need(set(body["allow"]) <= {HOME, ANY, *zones}, f"{where}.allow", "zones, home or any")
    _need(body["status"] in STATUSES, f"{where}.status", f"one of {', '.join(STATUSES)}")
    return ClassRule(name, **{**body, "allow": tuple(body["allow"]), "conditions": tuple(body["conditions"])})


def _only(body: Mapping[str, Any], where: str, needed: tuple[str, ...], may: tuple[str, ...] = ()) -> None:
    missing, odd = set(needed) - set(body), set(body) - set(needed) - set(may)
    _need(not missing, where, f"with {', '.join(sorted(missing))}")
    _need(not odd, where, f"without {', '.join(sorted(odd))}")


def _texts(body: Mapping[str, Any], where: str, names: tuple[str, ...]) -> None:
    for name in names:
        _need(isinstance(body[name], str), f"{where}.{name}", "a text")


def _need(holds: bool, where: str, wanted: str) -> None:
    if not holds:
        raise InvalidInput(f"{where} must be {wanted}.", "mend the entry.")
