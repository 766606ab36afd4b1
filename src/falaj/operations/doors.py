"""What can be done about who may call an endpoint beside keys: short-lived tokens and certificates."""

from __future__ import annotations

from typing import Any

from falaj.operations.operation import Argument, Asked, Operation, Subject
from falaj.operations.trust import waits

TOKEN_NAME = Subject("token", "the name of the program that gets it")
CERTIFICATE = Subject("certificate", "the name of the program; falaj certificate list shows them")
ROLES = Argument("roles", "what it may do, as in caller", "list", required=True)


def _token(asked: Asked) -> Any:
    """Endpoints need not be told: they check it by the project's public key."""
    app = asked.app
    made = app.access.tokens.create(asked.actor, asked.about, roles=asked["roles"], ttl=asked["ttl"])
    return {"name": asked.about.name, "roles": asked["roles"], **made, "note": "shown once; good until it ends or is revoked"}


def _shut_out(asked: Asked) -> Any:
    app, given = asked.app, {name: asked[name] for name in ("id", "name") if asked[name]}
    app.access.tokens.revoke(asked.actor, asked.about, **given)
    app.host.allow(app.access.allowed())
    return {"revoked": given}


def _allow(asked: Asked) -> Any:
    app = asked.app
    identity = app.access.certificates.allow(asked.actor, asked.about, roles=asked["roles"], identity=asked["identity"] or "")
    app.host.allow(app.access.allowed())
    standing = app.access.certificates.standing(asked.about)
    made = {"name": asked.about.name, "identity": identity, "roles": asked["roles"], "standing": standing}
    return made | ({"note": note} if (note := waits(standing, f"certificate confirm {asked.about.name}").lstrip("; ")) else {})


def _confirm(asked: Asked) -> Any:
    app = asked.app
    app.access.certificates.confirm(asked.actor, asked.about, roles=asked["roles"], reason=asked["reason"])
    app.host.allow(app.access.allowed())
    return {"confirmed": asked.about, "roles": asked["roles"]}


def _revoke(asked: Asked) -> Any:
    app = asked.app
    app.access.certificates.revoke(asked.actor, asked.about)
    app.host.allow(app.access.allowed())
    return {"revoked": asked.about}


def _sign(asked: Asked) -> Any:
    access = asked.app.access
    pem = access.certificates.sign(asked.actor, asked.about, request=asked["request"], ttl=asked["ttl"])
    return {"name": asked.about.name, "certificate": pem, "authority": access.authority.path.read_text("utf-8")}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "token",
        "create",
        "Makes a token for endpoints that ends by itself; its text is shown once.",
        _token,
        TOKEN_NAME,
        (ROLES, Argument("ttl", "how long it is good, as in 15m; a day at most", "span", "15m")),
    ),
    Operation(
        "token",
        "revoke",
        "Shuts tokens out, from their next call on, whoever issued them.",
        _shut_out,
        arguments=(
            Argument("id", "the id of one token (its jti)"),
            Argument("name", "a name (sub): every token of it that was made until now"),
        ),
    ),
    Operation(
        "certificate",
        "list",
        "Which programs are known by a certificate.",
        lambda a: a.app.access.certificates.listing(),
        changes=False,
    ),
    Operation(
        "certificate",
        "allow",
        "Lets in whoever shows a certificate of that identity.",
        _allow,
        CERTIFICATE,
        (ROLES, Argument("identity", "spiffe://domain/path or cn:name; without it, the project's own authority's")),
    ),
    Operation(
        "certificate",
        "confirm",
        "Another person's word that a program is to have a role that judges others.",
        _confirm,
        CERTIFICATE,
        (
            Argument("roles", "all roles that it is to have, as you know them", "list", required=True),
            Argument("reason", "how you know who holds it", required=True),
        ),
    ),
    Operation("certificate", "revoke", "Shuts a certificate's holder out, from its next call on.", _revoke, CERTIFICATE),
    Operation(
        "certificate",
        "sign",
        "Signs a program's key for an hour or so, by the project's own authority.",
        _sign,
        CERTIFICATE,
        (
            Argument("request", "the text of a signing request (PKCS #10, PEM)", required=True),
            Argument("ttl", "how long it is good, a day at most (default: tls_life)", "span"),
        ),
    ),
)
