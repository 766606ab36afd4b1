"""Whatever stands in [places] or in an address, it is read in one way or refused, and what nobody declared is unknown."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.places import UNKNOWN, Places, read_host, read_places, within

ZONES = ("local", "uae-onshore", "difc", "adgm", "eu")


def zone_of(text: str) -> str:
    if text not in ZONES:
        raise InvalidInput(f"{text} is no zone.")
    return text


def places(text: str, home: str = "uae-onshore") -> Places:
    return read_places(text, home, zone_of)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.01", "1.2.3.4.5", "256.1.1.1", "1.2.3", "0",
        "127.0.0.1.0",
        "", ".", "-a.example", "a_b!.example", "a..b", "ex ample", "user@host", "host:80", "[127.0.0.1", "::1::",
        "a" * 300, "\ud800",
    ],
)  # fmt: skip
def test_a_host_that_programs_read_differently_is_none(host: str) -> None:
    with pytest.raises(InvalidInput):
        read_host(host)


@pytest.mark.parametrize(
    ("host", "is_"),
    [
        ("127.0.0.2", "127.0.0.2"), ("::ffff:127.0.0.2", "127.0.0.2"), ("[::ffff:7f00:2]", "127.0.0.2"),
        ("64:ff9b::7f00:2", "127.0.0.2"), ("::1", "::1"), ("Store.Example.", "store.example"), ("１２７.0.0.2", "127.0.0.2"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)  # fmt: skip
def test_a_host_is_read_in_one_way(host: str, is_: str) -> None:
    assert str(read_host(host)) == is_


def test_this_machine_is_at_home_unless_a_place_says_otherwise() -> None:
    found = places("127.0.0.2=difc")
    assert found.of_address(ip_address("127.0.0.1")) == found.of_host("localhost") == "uae-onshore"
    assert found.of_address(ip_address("127.0.0.2")) == found.of_address(ip_address("::ffff:127.0.0.2")) == "difc"
    assert found.of_address(ip_address("10.0.0.1")) == found.of_host("store.example") == UNKNOWN


def test_the_most_particular_place_counts() -> None:
    found = places(
        "10.0.0.0/8=eu, 10.1.0.0/16=difc,10.1.1.1=adgm,*.example=eu,*.ae.example=difc,store.ae.example=adgm,/a=eu,/a/b=adgm"
    )
    assert [found.of_host(read_host(h)) for h in ("10.2.0.1", "10.1.2.3", "10.1.1.1")] == ["eu", "difc", "adgm"]
    assert [found.of_host(h) for h in ("x.example", "x.ae.example", "store.ae.example", "example")] == [
        "eu", "difc", "adgm", UNKNOWN,
    ]  # fmt: skip
    assert [found.of_folder(p) for p in ("/a/x", "/a/b", "/a/bc", "/b")] == ["eu", "adgm", "eu", UNKNOWN]


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1"]
)
def test_where_a_cloud_hands_out_credentials_is_in_no_zone_whatever_is_declared(address: str) -> None:
    found = places("0.0.0.0/0=uae-onshore,::/0=uae-onshore")
    assert found.of_address(ip_address(address)) == UNKNOWN
    assert not within(found.reaching("uae-onshore"), ip_address(address))


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/8", "=difc", "10.0.0.0/8=", "10.0.0.1/8=difc", "10.0.0.0/33=difc", "10.0.0.0/8=narnia", "localhost=difc",
        "10.0.0.1=difc,10.0.0.1/32=difc", "*.10.0.0.1=difc", "*=difc", "s3://=difc", "s3://Bucket/x=difc", "/a/../b=difc",
        "adapter:x=difc", "http://store.example=difc", "2130706433=difc", "a.example=difc,A.example=eu",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        places(text)


def test_a_table_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1001 entries"):
        places(",".join(f"h{n}.example=difc" for n in range(1001)))


@given(st.text(max_size=60))
def test_any_text_is_a_host_or_is_refused(text: str) -> None:
    try:
        host = read_host(text)
    except InvalidInput:
        return
    assert isinstance(host, IPv4Address | IPv6Address) or host == host.lower()
    assert read_host(str(host)) == host


@given(st.text(alphabet="10.:/=*,abcs3-_ xé[]\n", max_size=80))
def test_any_table_is_read_or_refused_and_never_puts_a_stranger_at_home(text: str) -> None:
    try:
        found = places(text)
    except InvalidInput:
        return
    assert (found.networks, found.names) == ((), {})  # no zone of ours can be spelled with these letters


ADDRESS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
NETWORKS = st.dictionaries(
    st.one_of(
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
    ).map(lambda pair: f"{_first(*pair)}/{pair[1]}"),
    st.sampled_from(ZONES),
    max_size=8,
)  # fmt: skip


def _first(address: IPv4Address | IPv6Address, length: int) -> str:
    from ipaddress import ip_network

    return str(ip_network((address, length), strict=False).network_address)


@example({"0.0.0.0/1": "local", "0.0.0.0/0": "local"}, IPv4Address("127.0.0.0"), "uae-onshore")  # wider than the loopback network
@given(networks=NETWORKS, address=ADDRESS, home=st.sampled_from(ZONES))
def test_an_address_that_no_network_holds_is_unknown_unless_it_is_this_machine(
    networks: dict[str, str], address: IPv4Address | IPv6Address, home: str
) -> None:
    from ipaddress import ip_network

    found = places(",".join(f"{key}={zone}" for key, zone in networks.items()), home)
    bare = read_host(str(address))
    assert not isinstance(bare, str)
    holding = [zone for key, zone in networks.items() if bare.version == ip_network(key).version and bare in ip_network(key)]
    seen = found.of_address(address)
    assert seen in {*holding, UNKNOWN} | ({home} if bare.is_loopback else set())
    for zone in ZONES:  # what an endpoint's process is told is the same word
        assert within(found.reaching(zone), address) == (seen == zone)
