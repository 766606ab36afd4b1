"""Each way of knowing who asks keeps the contract: keys, the project's own tokens, certificates, the company's provider."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from falaj.app import App, open_app
from falaj.core.actor import Actor
from falaj.core.ref import Ref
from falaj.ports.identity import Credential
from falaj.stages.governance.identity import ByCertificate, ByKey
from falaj.testing.identity import IdentitySuite, Known
from tests.kits.empty import empty_project
from tests.kits.oidc import Op

SETUP = Actor("setup", "system", ("operator",))


def swapped(text: str) -> str:
    """The same text with another signature."""
    return text[:-8] + ("A" * 8 if text[-8:] != "A" * 8 else "B" * 8)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with open_app(tmp_path, empty_project(tmp_path)) as app:
        yield app


class TestKeys(IdentitySuite):
    @pytest.fixture
    def known(self, app: App) -> Known:
        text = app.keys.create(SETUP, Ref("key", "lina"), roles=["data_scientist"])
        key = Ref("key", text.split("_")[1])
        wrong = [
            Credential(swapped(text)),
            Credential(text + "x"),
            Credential("falaj_" + "0" * 12 + "_" + "A" * 43),
        ]
        good = Credential(text)
        return Known(
            ByKey(app.keys), good, Actor("lina", "person", ("data_scientist",)), wrong, lambda: app.keys.revoke(SETUP, key)
        )


class TestOwnTokens(IdentitySuite):
    @pytest.fixture
    def known(self, app: App) -> Known:
        made = app.access.tokens.create(SETUP, Ref("token", "nightly"), roles=["service"], ttl=timedelta(minutes=5))
        text = made["token"]
        head, body, signature = text.split(".")
        wrong = [
            Credential(swapped(text)),
            Credential(f"{head}.{body}."),
            Credential(f"{body}.{head}.{signature}"),
            Credential("a.b.c"),
        ]
        return Known(
            app.access._own_tokens(), Credential(text), Actor("nightly", "service", ("service",)), wrong,
            lambda: app.access.tokens.revoke(SETUP, Ref("token", "all"), id=made["id"]),
        )  # fmt: skip


class TestCertificates(IdentitySuite):
    @pytest.fixture
    def known(self, app: App) -> Known:
        subject = Ref("certificate", "billing")
        name = app.access.certificates.allow(SETUP, subject, roles=["service"])
        wrong = [Credential("", "spiffe://other/service/billing"), Credential("", name + "x"), Credential("", "cn:billing")]
        return Known(
            ByCertificate(app.ledger), Credential("", name), Actor("billing", "service", ("service",)), wrong,
            lambda: app.access.certificates.revoke(SETUP, subject),
        )  # fmt: skip

    def test_a_wrong_key_is_not_made_good_by_a_certificate(self, app: App, known: Known) -> None:
        assert known.way.authenticate(replace(known.good, text="falaj_wrong")) is None


class TestProvider(IdentitySuite):
    @pytest.fixture
    def known(self, app: App, op: Op, tmp_path: Path) -> Iterator[Known]:
        with open_app(tmp_path, {**empty_project(tmp_path), **op.settings()}) as at_provider:
            assert at_provider.access.oidc is not None
            text = op.signed(op.claims())
            wrong = [Credential(swapped(text)), Credential("a.b.c"), Credential(op.signed(op.claims(aud="urn:other")))]
            yield Known(
                at_provider.access.oidc, Credential(text), Actor("noura", "person", ("approver",)), wrong,
                lambda: at_provider.access.tokens.revoke(SETUP, Ref("token", "all"), name="noura"),
            )  # fmt: skip

    def test_a_subject_that_was_shut_out_may_log_in_again(self, known: Known, op: Op) -> None:
        known.revoke()
        later = int(time.time()) + 2
        assert known.way.authenticate(Credential(op.signed(op.claims(iat=later, exp=later + 60)))) == known.actor
