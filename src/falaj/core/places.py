"""Places: which zone an address, a name, a bucket or a folder is declared to be in; what nobody declared is unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from falaj.core.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

UNKNOWN = "unknown"
"""The zone of what nobody declared. No rule allows it."""
MOST, LONGEST = 1000, 253
METADATA = frozenset(map(ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where clouds hand out a machine's own credentials, beside the link-local 169.254.169.254."""
LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_NAT64 = IPv6Network("64:ff9b::/96")
_NUMERIC = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)")
_LABEL = re.compile(r"(?!-)[a-z0-9_\-]{1,63}(?<!-)")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.\-_]{1,62}")
_ADAPTER = re.compile(r"[a-z_]{1,30}\.[a-z0-9_\-]{1,60}")


def read_host(text: str) -> Address | str:
    """The host part of a URL: an address where it writes one out, else the name in lower case, IDNA and without a last dot.

    An IPv6 address that wraps an IPv4 one (RFC 4291 2.5.5.2, RFC 6052) is that one. Raises InvalidInput for a number that
    programs read differently (decimal, octal, hexadecimal, shortened: RFC 6943 3.1.1), and for what is no name.
    """
    try:
        host = text.strip("[]") if text.startswith("[") and text.endswith("]") else text
        if ":" in host:
            return plain(ip_address(host))
        host = host.encode("idna").decode("ascii").lower().removesuffix(".") if not host.isascii() else host.lower()
    except ValueError as exc:
        raise _unreadable(text) from exc
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return ip_address(host)
        except ValueError as exc:
            raise _unreadable(text) from exc
    if not host or len(host) > LONGEST or not all(_LABEL.fullmatch(label) for label in labels):
        raise _unreadable(text)
    return host


def plain(address: Address) -> Address:
    """The address that packets for it go to: an IPv4 address in IPv6's clothes is that address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def never(address: Address) -> str:
    """Why nothing may go to that address whatever is declared of it, or an empty text."""
    if address.is_link_local or address in METADATA:
        return "it is where a cloud hands out the machine's own credentials"
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return "it is no address of one machine"
    return ""


@dataclass(frozen=True, slots=True)
class Places:
    """What is declared. The most particular word counts: of two networks the smaller one, of two names the longer one."""

    networks: tuple[tuple[Network, str], ...] = ()
    """Smallest first."""
    names: Mapping[str, str] = field(default_factory=dict)
    """`store.example`, or `*.example` for every name below it."""
    buckets: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[tuple[str, str], ...] = ()
    """Deepest first."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """`online.acme` → zone, for adapters of other packages whose address cannot be read from their options."""
    home: str = UNKNOWN
    """The installation's own zone, in which loopback addresses are unless a place says otherwise."""

    def of_address(self, address: Address) -> str:
        bare = plain(address)
        if never(bare):
            return UNKNOWN
        for network, zone in self.networks:
            if bare.version == network.version and bare in network:
                return zone
        return self.home if bare.is_loopback else UNKNOWN

    def of_name(self, name: str) -> str:
        """By its declaration alone; what it resolves to has to be in the same zone."""
        if name in self.names:
            return self.names[name]
        labels = name.split(".")
        for start in range(1, len(labels)):
            zone = self.names.get("*." + ".".join(labels[start:]))
            if zone is not None:
                return zone
        return self.home if name == "localhost" else UNKNOWN

    def of_host(self, host: Address | str) -> str:
        return self.of_name(host) if isinstance(host, str) else self.of_address(host)

    def of_bucket(self, bucket: str) -> str:
        return self.buckets.get(bucket, UNKNOWN)

    def of_folder(self, path: str) -> str:
        """`path` is absolute and normal. Unknown where no place speaks of it."""
        for folder, zone in self.folders:
            if path == folder or path.startswith(folder.rstrip("/") + "/"):
                return zone
        return UNKNOWN

    def reaching(self, zone: str) -> str:
        """Which addresses are in the zone, as `within` reads it, the first match first: `-127.0.0.2/32 +127.0.0.0/8`."""
        own = [(network, self.home) for network in LOOPBACK]
        found = (*sorted(self.networks, key=_size), *own)  # whatever is declared comes before ours, as in `of_address`
        return " ".join(f"{'+' if there == zone else '-'}{network}" for network, there in found)


def within(networks: str, address: Address) -> bool:
    """Whether the address is in what `Places.reaching` wrote. An empty text is this machine alone. Raises InvalidInput."""
    bare = plain(address)
    if never(bare):
        return False
    for part in networks.split() or [f"+{network}" for network in LOOPBACK]:
        try:
            network = ip_network(part[1:])
        except ValueError as exc:
            raise InvalidInput(f"{part[:60]!r} is no network.", "falaj promote writes the endpoint's settings again.") from exc
        if bare.version == network.version and bare in network:
            return part.startswith("+")
    return False


def read_places(text: str, home: str, zone_of: Callable[[str], str]) -> Places:
    """`place=zone,…`, as the settings keep the table `[places]`. `zone_of` reads the right side and raises for what it is not.

    A place is an address or a network (`10.20.0.0/16`), a name (`store.example`, `*.example`), a bucket (`s3://falaj`), a folder
    (`/mnt/share`) or an adapter of another package (`adapter:online.acme`). Raises InvalidInput for anything else and for a
    place that is declared twice.
    """
    found: dict[str, dict[str, str]] = {"network": {}, "name": {}, "bucket": {}, "folder": {}, "adapter": {}}
    entries = [entry for entry in (part.strip() for part in text.split(",")) if entry]
    if len(entries) > MOST:
        raise InvalidInput(f"[places] has {len(entries)} entries, {MOST} are allowed.", "name networks in place of addresses.")
    for entry in entries:
        place, equals, given = (part.strip() for part in entry.partition("="))
        if not equals or not place or not given:
            raise InvalidInput(f"{entry[:80]!r} is no place.", 'write "10.20.0.0/16" = "uae-onshore" below [places].')
        kind, key = _place(place)
        if key in found[kind]:
            raise InvalidInput(f"The place {key!r} is declared twice.", "keep one of the two.")
        found[kind][key] = zone_of(given)
    networks = sorted(((ip_network(key), zone) for key, zone in found["network"].items()), key=_size)
    folders = sorted(found["folder"].items(), key=lambda item: -len(item[0]))
    return Places(tuple(networks), found["name"], found["bucket"], tuple(folders), found["adapter"], home)


def _size(item: tuple[Network, str]) -> tuple[int, int, str]:
    network = item[0]
    return network.max_prefixlen - network.prefixlen, network.version, str(network)


def _place(text: str) -> tuple[str, str]:
    """(kind, the place in its one normal form)."""
    kind, _, rest = text.partition(":")
    if text.startswith("s3://") and _BUCKET.fullmatch(text[5:]):
        return "bucket", text[5:]
    if kind == "adapter" and _ADAPTER.fullmatch(rest):
        return "adapter", rest
    if text.startswith("/"):
        parts = text.rstrip("/").split("/")[1:]
        if all(part and part not in (".", "..") and "\0" not in part for part in parts):
            return "folder", "/" + "/".join(parts)
        raise _no_place(text)
    if "/" in text or ":" in text:
        try:
            return "network", str(ip_network(text.strip("[]")))
        except ValueError as exc:
            raise _no_place(text) from exc
    wild = text.startswith("*.")
    host = read_host(text[2:] if wild else text)
    if isinstance(host, str):
        if host == "localhost":
            raise InvalidInput("localhost cannot be a place.", 'write "127.0.0.0/8", or an address of it.')
        return "name", f"*.{host}" if wild else host
    if wild:
        raise _no_place(text)
    return "network", str(ip_network(str(host)))


def _no_place(text: str) -> InvalidInput:
    return InvalidInput(
        f"{text[:80]!r} is no place.", "write an address, a network such as 10.20.0.0/16, a name, s3://bucket or a folder."
    )


def _unreadable(text: str) -> InvalidInput:
    return InvalidInput(f"{text[:80]!r} is no host.", "write a name, or an address as 192.0.2.7 or 2001:db8::7.")
