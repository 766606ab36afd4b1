"""Residency of the open project: what leads where, whether it may, and the one gate that every adapter with an address passes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.adapters import open_adapter
from falaj.adapters.local.mounts import mount_of
from falaj.core.actor import Actor
from falaj.core.decision import Check, Decision
from falaj.core.errors import Denied, FalajError
from falaj.core.places import UNKNOWN, Places, read_host, read_places
from falaj.core.ref import Ref
from falaj.loci import declared, destinations_of, endpoint_of, proxies, source_options
from falaj.stages.contracts.spec import From
from falaj.stages.governance.residency.destinations import Destination, destinations, zone_of
from falaj.stages.governance.residency.registry import registry, tightened
from falaj.stages.governance.residency.rules import UNCLASSIFIED, Grant, Law, Matter, may_lie, summed

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.stages.contracts.contract import Contract
    from falaj.stages.governance.residency.service import Zones
    from falaj.stages.governance.residency.transfers import Transfers

CALLS_OUT = frozenset({"notify.webhook", "lineage.http", "witness.http"})
"""Adapters that show each address to `reach` when they connect: opening them sends nothing."""
EVER = datetime.max.replace(tzinfo=UTC)
SAID_EVERY = timedelta(minutes=10)
"""The same refusal, by one process, is recorded again after so long: a worker tries every few seconds."""


class Residency:
    """One object a project. Nothing is read or resolved before something with an address is asked for."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._said: dict[tuple[str, str], datetime] = {}
        self._classes: dict[str, tuple[bytes, tuple[str, ...]]] = {}

    @cached_property
    def law(self) -> Law:
        """The registry, as narrow as the project's compliance packs make it (their values `residency.<class>.zones`)."""
        allowed: dict[str, list[Sequence[str]]] = {}
        for pack in self.app.governance.policing.packs:
            for value in pack.values("residency"):
                cls, _, what = value.path.removeprefix("residency.").partition(".")
                if what == "zones":
                    allowed.setdefault(cls, []).append(tuple(value.value))
        return Law(tightened(registry(), allowed), str(self.app.settings.zone))

    @cached_property
    def places(self) -> Places:
        """Raises InvalidInput or NotFound for a table [places] that cannot be read."""
        return read_places(str(self.app.settings.places), self.law.home, self.law.registry.zone_of)

    @cached_property
    def transfers(self) -> Transfers:
        from falaj.stages.governance.residency.transfers import Transfers

        return Transfers(self.app.kernel, self.law, lambda: declared(self.app))

    @cached_property
    def zones(self) -> Zones:
        from falaj.adapters.local.signing import open_key, sign_envelope
        from falaj.stages.governance.residency.service import Zones

        def sign(payload: bytes, kind: str) -> Mapping[str, Any]:
            return sign_envelope(payload, kind, open_key(self.app.state / "keys" / "zone.ed25519"))

        return Zones(self.app.kernel, sign)

    @property
    def guard(self) -> Actor:
        """Who refuses: the installation itself, since what is opened serves everybody who asks later."""
        return Actor("residency", "service", ("service",), self.law.home)

    # --- the gate ---

    def open(self, port: str, scheme: str, /, **options: Any) -> Any:
        """Opens an adapter where residency lets it be opened. Raises Denied, after the refusal was recorded."""
        if f"{port}.{scheme}" in CALLS_OUT:
            return open_adapter(port, scheme, **options, reach=self.reach(port))
        self.admit(destinations(port, port, scheme, endpoint_of(options, os.environ)))
        return open_adapter(port, scheme, **options)

    def open_source(self, source: From) -> Any:
        """The source of a dataset, by the classes of that dataset."""
        name = next((name for name, declared in declared(self.app).items() if declared.source is source), "")
        options = source_options(self.app, source)
        what = f"dataset/{name}" if name else "dataset"
        self.admit(destinations(what, "source", source.scheme, endpoint_of(options, os.environ)))
        return open_adapter("source", source.scheme, **options)

    def told(self) -> dict[str, str]:
        """What the endpoints' own processes are told, after all that they connect to was let pass. Raises Denied."""
        found = [one for one in destinations_of(self.app) if one.what in ("online", "stream", "traces")]
        self.admit(found)
        traces = [one for one in found if one.what == "traces"]
        return {"trace_networks": self.places.reaching(self.settled(traces[0])[0])} if traces else {}

    def admit(self, found: Sequence[Destination]) -> None:
        """Raises Denied, after the refusal was recorded, unless everything may be there; Unavailable where a name has no address.

        What is on this machine's own disks and of which no place speaks passes, and so does a ledger in a file: `zone verify`
        judges them, and policy judges who reads them. A folder on a disk that another machine lends is no folder of this one.
        """
        here = all(one.is_here and (found[0].what == "ledger" or self.mounted(one).is_here) for one in found)
        if here and (found[0].what == "ledger" or not self.places.folders):
            return  # also with a table [places] that cannot be read: whoever mends it needs the project open
        for one in (*found, *(proxies() if any(d.hosts or d.bucket for d in found) else ())):
            zone, by = self.settled(one)
            self._let(one, zone, by)

    def reach(self, what: str) -> Callable[[str, Sequence[str]], None]:
        """What falaj's own web requests ask at each connection, with the host as it is written and its addresses."""

        def ask(host: str, addresses: Sequence[str]) -> None:
            name = read_host(host)
            shown = f"{host} ({', '.join(addresses)})" if isinstance(name, str) and addresses else host
            zone, by = self._met(self.places.of_host(name), name, addresses)
            self._let(Destination(what, "telemetry", shown, (name,)), zone, by, is_spent=bool(addresses))

        return ask

    def look(self, host: str) -> None:
        """Raises Denied where nothing may go to a host that logins are asked of, Unavailable where it has no address."""
        from falaj.adapters.local.egress import resolved

        reach = self.reach("identity")
        reach(host, ())
        reach(host, resolved(host))

    def settled(self, one: Destination) -> tuple[str, str]:
        """(zone, what says so): what is declared, as far as what its names resolve to agrees. Raises Unavailable."""
        from falaj.adapters.local.egress import names, resolved

        one = self.mounted(one)
        if one.address.startswith("postgres") and os.environ.get("PGHOSTADDR"):
            return UNKNOWN, "PGHOSTADDR in the environment leads every PostgreSQL client elsewhere"
        zone, by = zone_of(one, self.places, self.law.registry)
        for name in names(one.hosts):
            if zone != UNKNOWN:
                zone, by = self._met(zone, name, resolved(name))
        return zone, by

    def mounted(self, one: Destination) -> Destination:
        """A folder is where a link leads; one that another machine lends is where that machine is."""
        one = replace(one, folder=str(Path(one.folder).resolve())) if one.folder.startswith("/") else one
        mount = mount_of(Path(one.folder)) if one.folder.startswith("/") else None
        if mount is None or mount.is_own or self.places.of_folder(one.folder) != UNKNOWN:
            return one
        if not mount.host:
            return replace(one, folder="", problem=f"{mount.point} is a {mount.kind} mount, and nothing says whose")
        return replace(one, folder="", hosts=(read_host(mount.host),))

    def _met(self, zone: str, host: Any, addresses: Sequence[str]) -> tuple[str, str]:
        """A name is believed as far as each of its addresses lies in a network of the same zone."""
        for address in addresses:
            there = self.places.of_host(read_host(address))
            if there != zone or there == UNKNOWN:
                said = f"{host} is declared in {zone} and leads to {address}, which is in {there}"
                return UNKNOWN, said if str(host) != address else f"nothing says where {address} is"
        return zone, f"{host} → {', '.join(addresses)}" if addresses else str(host)

    def _let(self, one: Destination, zone: str, by: str, *, is_spent: bool = True) -> None:
        """One destination in one zone: by rule or by grant, or Denied. `is_spent`: what is good once is used up by it."""
        own = one.what == "ledger"  # it holds the grants, and the refusals: it is judged by the rules alone
        at = EVER if own else self.app.kernel.now()
        decision = may_lie(self.matter(one.what), zone, self.law, () if own else self._grants(), at)
        shut = "" if own else self.zones.shut_out(one.what)
        if decision.allowed and not shut:
            if is_spent:
                self._spend(decision, one)
            return
        reason = f"it was found elsewhere: {shut}" if shut else f"{decision.reason} ({by})"
        if not own:
            self._record(one, zone, reason, at)
        raise Denied(
            f"Nothing goes to {one.address} ({one.what}): {reason}.", self._hint(one, zone, shut), what=one.what, zone=zone
        )

    def _grants(self) -> Sequence[Grant]:
        return self.transfers.good(self.app.kernel.now())

    def _spend(self, decision: Decision, one: Destination) -> None:
        """A derogation is good once: it is used up before anything goes out."""
        good = (
            {f"transfer/{grant.id}": grant for grant in self._grants()}
            if any("transfer/" in p for p in decision.policies)
            else {}
        )
        for name in decision.policies:
            if name in good and good[name].basis == "derogation":
                self.transfers.use(self.guard, Ref.parse(name), destination=one.what)

    def _record(self, one: Destination, zone: str, reason: str, at: datetime) -> None:
        key = (one.what, f"{one.address} {reason}")
        if key not in self._said or not self._said[key] <= at < self._said[key] + SAID_EVERY:
            from falaj.stages.governance.residency.service import ALL

            self.zones.deny(self.guard, ALL, destination=one, zone=zone, reason=reason)
            self._said[key] = at

    def _hint(self, one: Destination, zone: str, shut: str) -> str:
        if shut:
            return "falaj zone probe looks again; it is used once it is found where it is declared to be."
        if zone == UNKNOWN:
            asked = [str(host) for host in one.hosts if self.places.of_host(host) == UNKNOWN]
            place = asked[0] if asked else f"s3://{one.bucket}" if one.bucket else f"adapter:{one.adapter}" if one.adapter else ""
            place = place or one.account or "192.0.2.0/24"
            return (
                f'if you know where it is, write "{place}" = "<zone>" below [places] in falaj.toml; a name needs its network too.'
            )
        return "falaj transfer request asks for leave; falaj zone show says what leads where."

    # --- what is asked of it ---

    def matter(self, what: str) -> Matter:
        """What would lie there: one dataset at its own source, else everything that the project holds."""
        named = what.removeprefix("dataset/").partition(".")[0] if what.startswith("dataset/") else ""
        datasets = [named] if named in declared(self.app) else sorted(declared(self.app))
        classes = sorted({cls for name in datasets for cls in self._classes_of(name)})
        return Matter(Ref("zone", "all"), tuple(classes), tuple(datasets))

    def _classes_of(self, name: str) -> tuple[str, ...]:
        """As the contract says now of the dataset and of its columns; where it cannot be read, a class that no rule knows."""
        from falaj.stages.contracts import odcs

        try:
            path = (self.app.settings.folder / declared(self.app)[name].contract).resolve()
            written = path.read_bytes()
            held = self._classes.get(name)
            if held is None or held[0] != written:
                held = self._classes[name] = (written, self._read_classes(odcs.read(written, path.name)))
        except (OSError, FalajError):
            return ("unreadable",)
        return held[1]

    def _read_classes(self, contract: Contract) -> tuple[str, ...]:
        more = contract.labels.get("classes") or ()
        words = [contract.labels.get("classification"), *([more] if isinstance(more, str) else more)]
        words += [column.classification for column in contract.columns]
        return tuple(sorted({self.law.registry.class_of(str(word)) for word in words if word})) or (UNCLASSIFIED,)

    def listing(self) -> list[dict[str, Any]]:
        """Each destination with its locus, its zone and what says so. Names are not resolved."""
        return [
            {"locus": one.locus, "what": one.what, "address": one.address, "zone": zone, "by": by}
            for one in map(self.mounted, destinations_of(self.app))
            for zone, by in [zone_of(one, self.places, self.law.registry)]
        ]

    def verify(self) -> Decision:
        """One check for each destination and class of data: deny where a zone is unknown or forbidden, or a look found drift."""
        from falaj.stages.governance.residency.service import ALL, DRIFT, GOOD

        at, grants, ledger = self.app.kernel.now(), self._grants(), self.zones.found()
        judged, more = [], []
        for one in destinations_of(self.app):
            try:
                zone, by = self.settled(one)
            except FalajError as exc:
                zone, by = UNKNOWN, exc.message
            decision = may_lie(self.matter(one.what), zone, self.law, grants, at)
            checks = tuple(check if check.passed else replace(check, seen=f"{check.seen}: {by}") for check in decision.checks)
            judged.append((f"{one.locus} {one.what}", replace(decision, checks=checks)))
            held = ledger.get(one.what)
            if held is not None and held.get("state") != GOOD:
                passed = False if held.get("state") == DRIFT else None
                more.append(Check(f"{one.locus} {one.what} probe", "found where it is declared", str(held.get("seen")), passed))
        return summed(judged, ALL, at, more)

    def placed(self, actor: Actor, peer: str | None = None) -> Actor:
        """The same actor in the zone from which they ask: that of the peer's address, or of this machine without one.

        To look at data from another zone is to transfer it.
        """
        if peer is None:
            return replace(actor, zone=self.law.home)
        try:
            return replace(actor, zone=self.places.of_host(read_host(peer)))
        except FalajError:
            return replace(actor, zone=UNKNOWN)
