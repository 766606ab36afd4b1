"""Looks whether everything is where it is declared to be: names, certificates, buckets and disks, asked themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from falaj.adapters.local.egress import address, fetch, named_rightly, names, resolved
from falaj.adapters.local.mounts import mount_of
from falaj.adapters.local.reference import secret
from falaj.config import blobs_options
from falaj.core.errors import Denied, FalajError, Unavailable
from falaj.core.places import UNKNOWN, read_host
from falaj.loci import destinations_of, endpoint_of
from falaj.stages.contracts.spec import From
from falaj.stages.governance.residency.destinations import Destination, zone_of
from falaj.stages.governance.residency.rules import may_lie
from falaj.stages.governance.residency.service import DRIFT, GOOD, UNSEEN, Finding

if TYPE_CHECKING:
    from falaj.app import App
    from falaj.residency import Residency

TIMEOUT_S = 5.0
_TLS = ("webhook", "openlineage", "serve_trace_url", "mlflow_uri", "blobs_endpoint")


def probed(app: App) -> list[Finding]:
    """One finding for each destination. Nothing is sent to a place that nothing may go to; there the name alone is resolved."""
    residency: Residency = app.governance.residency
    found = [_look(residency, one) for one in destinations_of(app)]
    return [*found, _state(app, residency)]


def _look(residency: Residency, declared: Destination) -> Finding:
    one = residency.mounted(declared)
    zone, by = zone_of(one, residency.places, residency.law.registry)
    if zone == UNKNOWN:
        return _found(declared, zone, UNSEEN, by)
    try:
        state, seen = _asked(residency, one, zone)
    except Denied as exc:
        state, seen = DRIFT, exc.message
    except FalajError as exc:
        state, seen = UNSEEN, exc.message
    except (OSError, ValueError) as exc:
        state, seen = UNSEEN, f"it does not answer ({type(exc).__name__})"
    return _found(declared, zone, state, seen or by)


def _asked(residency: Residency, one: Destination, zone: str) -> tuple[str, str]:
    """(state, what was seen). Raises Denied for what leads elsewhere, Unavailable where nobody answers."""
    addresses = []
    for name in names(one.hosts):
        for seen in resolved(name):
            addresses.append(seen)
            there = residency.places.of_host(read_host(seen))
            if there != zone:
                return DRIFT, f"{name} leads to {seen}, which is in {there}"
    at = residency.app.kernel.now()
    if not may_lie(residency.matter(one.what), zone, residency.law, residency.transfers.good(at), at).allowed:
        return GOOD, f"in {zone}, where nothing may go: nothing was asked of it"
    for url in _encrypted(residency.app, one):
        parts = urlsplit(url)
        if not named_rightly(parts.hostname or "", parts.port or 443, _reach(residency, zone), TIMEOUT_S):
            return DRIFT, f"who answers at {parts.hostname} shows the certificate of another name"
    if one.bucket:
        region, wanted = _region(residency, one, zone)
        if region != wanted:
            return DRIFT, f"the bucket is in {region}, not in {wanted}"
        return GOOD, f"the bucket is in {region}"
    return GOOD, f"at {', '.join(addresses)}" if addresses else ""


def _region(residency: Residency, one: Destination, zone: str) -> tuple[str, str]:
    """(the region that the store says, the one that the settings say)."""
    from falaj.adapters.s3.location import located, location_address
    from falaj.adapters.tabular.address import STORE_OPTIONS, bucket

    uri, options = _store(residency.app, one)
    given = {name: value for name, value in options.items() if name in STORE_OPTIONS and value}
    held = bucket(uri, secret, given)
    reach = _reach(residency, zone) if one.hosts else _anywhere
    if held.in_clear:
        # `http` beyond this machine is the project's own decision (allow_http); there the store cannot be asked safely.
        checked = location_address(held)
        if not _is_here(checked):
            raise Unavailable("a store without encryption is not asked where it is.", "use https.")
    _, _, opener = address(location_address(held), "store", reach)

    def get(url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        return fetch(opener, url, headers=headers, timeout=TIMEOUT_S)

    return located(held, get, datetime.now(UTC)), held.given["region"]


def _store(app: App, one: Destination) -> tuple[str, Mapping[str, Any]]:
    """The address and the options of the store behind a destination."""
    if one.what == "blobs":
        options = blobs_options(app.settings, secret)
        return str(options["uri"]), {**endpoint_of(options, os.environ), "key_secret": str(app.settings.blobs_secret)}
    declared = app.project.datasets[one.what.removeprefix("dataset/").partition(".")[0]].source
    if not isinstance(declared, From) or "path" not in declared.options:
        raise Unavailable("only a catalog knows its store.", "declare the bucket below [places].")
    return str(declared.options["path"]), endpoint_of(declared.options, os.environ)


def _reach(residency: Residency, zone: str) -> Any:
    """Lets a connection pass to addresses of that zone."""

    def ask(host: str, addresses: Sequence[str]) -> None:
        for seen in addresses:
            there = residency.places.of_host(read_host(seen))
            if there != zone:
                raise Denied(f"{host} leads to {seen}, which is in {there}", "look at its name servers.")

    return ask


def _anywhere(_host: str, _addresses: Sequence[str]) -> None:
    """For AWS itself: its addresses change, and what it answers is under its own certificate."""


def _is_here(url: str) -> bool:
    from falaj.adapters.local.egress import is_loopback

    return is_loopback(urlsplit(url).hostname or "")


def _encrypted(app: App, one: Destination) -> Iterator[str]:
    """The https addresses of the settings that lead there."""
    for setting in _TLS:
        url = str(app.settings.values[setting].value)
        if url.startswith("https://") and read_host(urlsplit(url).hostname or "") in one.hosts:
            yield url


def _state(app: App, residency: Residency) -> Finding:
    """Whether the state folder, with the ledger and the keys, is on a disk of this machine or of one in its zone."""
    folder, mount = app.state.absolute(), mount_of(app.state.absolute())
    one = residency.mounted(Destination("state folder", "storage", str(folder), folder=str(folder)))
    zone, by = zone_of(one, residency.places, residency.law.registry)
    if mount is None:
        return _found(one, zone, UNSEEN, "this system does not say on which disk it is")
    seen = f"on {mount.kind}" + (f" of {mount.device}" if not mount.is_own else "")
    if zone == residency.law.home:
        return _found(one, zone, GOOD, seen)
    return _found(one, zone, UNSEEN if zone == UNKNOWN else DRIFT, f"{seen}: {by}")


def _found(one: Destination, zone: str, state: str, seen: str) -> Finding:
    return Finding(one.what, one.locus, one.address[:200], zone, state, seen[:300])
