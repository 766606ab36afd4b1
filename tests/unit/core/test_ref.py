from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.core.errors import InvalidInput
from falaj.core.ref import Ref

names = st.from_regex(r"[a-z0-9][a-z0-9_\-]{0,30}", fullmatch=True)


@given(st.builds(Ref, names, names, st.none() | names))
def test_a_reference_is_read_back_from_its_text(ref: Ref) -> None:
    assert Ref.parse(str(ref)) == ref


@pytest.mark.parametrize("text", ["model/delay", "model/delay@7", "dataset/flights.daily@2013-05-01", "a/b@V1.0"])
def test_good_references(text: str) -> None:
    assert str(Ref.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "model/",
        "/delay",
        "model/delay@",
        "model/Delay",
        "model/de lay",
        "model/../etc",
        "model/a..b",
        "model/delay@..",
        "model/delay/7",
        "model/delay@7@8",
        "model/delay\n",
        "model/délai",
        "model/" + "x" * 81,
        ".model/delay",
        7,
        None,
        b"model/delay",
    ],
)
def test_what_is_no_reference_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Ref.parse(text)
    assert "model/delay@7" in caught.value.hint


def test_a_version_is_put_on_and_taken_off() -> None:
    assert str(Ref("model", "delay").at(7)) == "model/delay@7"
    assert Ref("model", "delay", "7").bare == Ref("model", "delay")
    assert Ref("model", "delay", "7").at("8").version == "8"
