"""A store is asked where a bucket is with the signature that AWS's own library makes, and its answer is read in all its forms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from falaj.adapters.s3.location import located, location_address
from falaj.adapters.tabular.address import Bucket, bucket
from falaj.core.errors import NotFound, Unavailable

AT = datetime(2026, 11, 1, 12, 30, 5, tzinfo=UTC)
SECRETS = {"env:K": b"AKIDEXAMPLE", "env:S": b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "env:T": b"a/token+of=some"}
SAID = '<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"{}'


def lake(**options: str) -> Bucket:
    return bucket("s3://lake/x", SECRETS.get, {"region": "me-central-1", **options})


def answered(status: int = 200, body: str = "", **headers: str) -> str:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return located(lake(), lambda _url, _headers: (status, told, body.encode()), AT)


@pytest.mark.parametrize(
    ("body", "region"),
    [(">me-south-1</LocationConstraint>", "me-south-1"), (">EU</LocationConstraint>", "eu-west-1"), ("/>", "us-east-1"),
     ("></LocationConstraint>", "us-east-1")],
)  # fmt: skip
def test_the_answer_is_read_in_all_its_forms(body: str, region: str) -> None:
    assert answered(body=SAID.format(body)) == region


def test_aws_says_the_region_also_when_it_refuses() -> None:
    assert answered(403, x_amz_bucket_region="me-south-1") == "me-south-1"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(404, "", NotFound), (403, "", Unavailable), (401, "", Unavailable), (200, "<html>", Unavailable), (500, "", Unavailable),
     (200, "<LocationConstraint>" + "x" * 61 + "</LocationConstraint>", Unavailable)],
)  # fmt: skip
def test_what_says_nothing_of_a_region_is_no_region(status: int, body: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        answered(status, body)


def test_without_keys_nothing_is_signed() -> None:
    seen: list[Mapping[str, str]] = []

    def fetch(_url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        seen.append(headers)
        return 200, {"x-amz-bucket-region": "x"}, b""

    located(lake(), fetch, AT)
    assert seen == [{}]


@pytest.mark.parametrize("options", [{}, {"token": "env:T"}, {"endpoint": "https://store.example:9000"}])
def test_the_signature_is_that_of_awss_own_library(options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    auth = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    held = lake(key="env:K", key_secret="env:S", **options)
    monkeypatch.setattr(auth, "get_current_datetime", lambda **_: AT.replace(tzinfo=None))
    request = AWSRequest("GET", location_address(held))
    token = SECRETS["env:T"].decode() if "token" in options else None
    signer: Any = auth.S3SigV4Auth(Credentials(SECRETS["env:K"].decode(), SECRETS["env:S"].decode(), token), "s3", "me-central-1")
    request.context["payload_signing_enabled"] = True
    signer.add_auth(request)
    seen: dict[str, str] = {}

    def fetch(_url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        seen.update(headers)
        return 200, {"x-amz-bucket-region": "x"}, b""

    located(held, fetch, AT)
    assert seen["Authorization"] == request.headers["Authorization"]
