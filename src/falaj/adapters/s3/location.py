"""In which region a bucket really is, asked of the store itself with a request that is signed here.

obstore signs requests for objects only, and GetBucketLocation is none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from falaj.adapters.tabular.address import Bucket
from falaj.core.errors import NotFound, Unavailable

Fetch = Callable[[str, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]
"""(address, headers) → (status, headers, body) of a GET."""
_LOCATION = re.compile(rb"<LocationConstraint[^>]{0,200}?(?:/>|>([^<]{0,60})</LocationConstraint>)")
_OLD_NAMES = {"": "us-east-1", "EU": "eu-west-1"}
"""What S3 calls two regions in this answer (API reference of GetBucketLocation)."""
_NOTHING = hashlib.sha256(b"").hexdigest()


def location_address(bucket: Bucket) -> str:
    """Path style, which every store understands."""
    endpoint = bucket.given.get("endpoint") or f"https://s3.{bucket.given['region']}.amazonaws.com"
    return f"{endpoint.rstrip('/')}/{bucket.name}?location="


def located(bucket: Bucket, fetch: Fetch, now: datetime) -> str:
    """The region's code, such as `me-central-1`. Raises NotFound without the bucket, Unavailable where the store says nothing of
    it, or not to these keys."""
    address = location_address(bucket)
    status, headers, body = fetch(address, _signed(bucket, address, now))
    told = headers.get("x-amz-bucket-region", "")
    if told:  # AWS says it with every answer, also with a refusal
        return told
    if status == 404:
        raise NotFound(f"There is no bucket {bucket.name}.", "make it, or check its name and region.")
    if status in (401, 403):
        raise Unavailable(f"The keys may not ask where {bucket.name} is.", "allow them s3:GetBucketLocation.")
    found = _LOCATION.search(body) if status == 200 else None
    if found is None:
        raise Unavailable(f"The store does not say where {bucket.name} is ({status}).", "it is asked again.")
    said = (found[1] or b"").decode("utf-8", "replace").strip()
    return _OLD_NAMES.get(said, said)


def _signed(bucket: Bucket, address: str, now: datetime) -> dict[str, str]:
    """AWS Signature Version 4 of a GET without a body; no header at all without keys."""
    key, hush = bucket.given.get("access_key_id"), bucket.given.get("secret_access_key")
    if not key or not hush:
        return {}
    parts, region = urlsplit(address), bucket.given["region"]
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _NOTHING, "x-amz-date": moment}
    if token := bucket.given.get("session_token"):
        headers["x-amz-security-token"] = token
    names = ";".join(sorted(headers))
    told = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"GET\n{parts.path}\n{parts.query}\n{told}\n{names}\n{_NOTHING}"
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing = f"AWS4{hush}".encode()
    for part in (day, region, "s3", "aws4_request"):
        signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(signing, text.encode(), hashlib.sha256).hexdigest()
    given = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**{name.title(): value for name, value in headers.items() if name != "host"}, "Authorization": given}
