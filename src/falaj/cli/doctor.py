"""Looks for what is missing or wrong in an installation, and says what mends it."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from falaj.core.decision import Check, Decision, judge
from falaj.core.errors import FalajError
from falaj.core.ref import Ref

if TYPE_CHECKING:
    from falaj.app import App

EXTRAS: Mapping[str, tuple[str, ...]] = {
    # extra: the modules that it brings
    "data": ("numpy", "polars"),
    "serve": ("httptools", "lmdb", "msgspec", "numpy", "onnxruntime", "orjson", "uvloop"),
    "train": ("lightgbm", "matplotlib", "onnx", "onnxruntime"),
    "mlflow": ("alembic", "mlflow", "sqlalchemy"),
    "contracts": ("jsonschema", "open_data_contract_standard"),
    "sql": ("duckdb", "sqlglot"),
    "parquet": ("pyarrow",),
    "s3": ("obstore",),
    "delta": ("deltalake", "pyarrow"),
    "iceberg": ("pyarrow", "pyiceberg"),
    "postgres": ("adbc_driver_manager", "adbc_driver_postgresql", "pg8000", "pyarrow"),
    "database": ("sqlalchemy",),
    "warehouse": ("ibis", "pyarrow"),
    "redis": ("redis",),
    "grpc": ("google", "grpc"),
    "tokens": ("jwt",),
    "oidc": ("authlib", "httpx", "joserfc"),
    "evidence": ("cyclonedx",),
    "traces": ("opentelemetry",),
    "kafka": ("confluent_kafka",),
    "nats": ("nats",),
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost",),
    "safetensors": ("onnx", "safetensors"),
}
SPACE = 1 << 30
SOON = timedelta(days=7)
"""Before the end of a certificate that a person has to renew."""


def examine(project: Path, settings: Mapping[str, str]) -> Decision:
    """Each question a Check. What an extra would bring is not seen, which holds nothing up; what is wrong denies."""
    checks = [*_machine(project), *_installed()]
    for name, ask in QUESTIONS.items():
        checks.append(_asked(name, ask, project, settings))
    verdict = judge([check for check in checks if not check.name.startswith("extra ")])
    return Decision(Ref("installation", "here"), "doctor", verdict, tuple(checks))


def _machine(project: Path) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", ">= 3.11", version, sys.version_info >= (3, 11))
    free = shutil.disk_usage(project if project.exists() else Path()).free
    yield Check("disk", "1 GiB free", f"{free / (1 << 30):.1f} GiB", free >= SPACE)


def _installed() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        seen = f"missing: {', '.join(missing)}" if missing else "installed"
        yield Check(f"extra {extra}", f"pip install 'falaj[{extra}]'", seen, None if missing else True)
    if importlib.util.find_spec("lightgbm") is not None and sys.platform == "linux":
        yield _library("libgomp.so.1", "libgomp1")


def _library(name: str, package: str) -> Check:
    import ctypes

    try:
        ctypes.CDLL(name)
    except OSError:
        return Check("OpenMP for LightGBM", f"apt-get install {package}", f"no {name}", False)
    return Check("OpenMP for LightGBM", name, "found", True)


Question = Callable[["App"], str]


def _asked(name: str, ask: Question, project: Path, settings: Mapping[str, str]) -> Check:
    from falaj.app import open_app

    try:
        with open_app(project, dict(settings)) as app:
            return Check(name, "readable and whole", ask(app), True)
    except FalajError as exc:
        return Check(name, exc.hint or "readable and whole", exc.message, False)
    except Exception as exc:  # whatever is broken here is what the doctor was called for
        return Check(name, "readable and whole", f"{type(exc).__name__}: {exc}", False)


def _settings(app: App) -> str:
    named = [name for name, value in app.settings.values.items() if value.origin != "default"]
    return f"{len(named)} of {len(app.settings.values)} differ from their default"


def _ledger(app: App) -> str:
    if app.settings.ledger == "memory":
        return "in memory"
    return f"{sum(1 for _ in app.ledger.leaves())} events"


def _policies(app: App) -> str:
    """What is in force, and who vouches for it."""
    app.kernel  # noqa: B018  # opens the policies, or says what is wrong with them
    if app.settings.policy != "cedar":
        return "the role table alone"
    packs = [
        f"{pack.id} {pack.version} ({pack.counsel_signoff or 'signed by no counsel'})" for pack in app.governance.policing.packs
    ]
    return f"{len(app.governance.policing.listed())} policies, {', '.join(packs) or 'no pack'}"


def _project(app: App) -> str:
    kinds = ("datasets", "views", "trainings", "gates", "endpoints", "monitors")
    return ", ".join(f"{len(getattr(app.project, kind))} {kind}" for kind in kinds)


def _doors(app: App) -> str:
    """How callers come in, and until when what they are shown is good."""
    from falaj.access import wall
    from falaj.core.errors import Conflict
    from falaj.core.moments import iso

    access = app.access
    access.door()
    if access.is_in_clear:
        raise Conflict(
            f"Endpoints listen on {app.settings.serve_host} without encryption.", 'set serve_tls = "local" or "files".'
        )
    found = access.ends()
    for what, until in found.items():
        is_own = what.startswith("endpoint/")
        if until - wall() < (access.life / 4 if is_own else SOON):
            hint = "falaj up renews it." if is_own else "put a new certificate there; endpoints take it over by themselves."
            raise Conflict(f"The certificate of {what} ends at {iso(until)}.", hint)
    return ", ".join(f"{what} until {iso(until)}" for what, until in found.items()) or "plain HTTP, for this machine only"


def _logins(app: App) -> str:
    """The company's provider, asked now."""
    access = app.access
    if access.oidc is None:
        return "no provider is named; keys, tokens and certificates only"
    return f"{access.oidc.provider.pinned.issuer}, {access.oidc.provider.refresh()} keys"


def _modes(app: App) -> str:
    """The state folder is nobody else's, and neither is any secret in it."""
    from falaj.core.errors import Conflict

    folder = app.settings.state_folder
    for path, allowed in ((folder, 0o700), *((path, 0o600) for path in (folder / "keys").glob("*") if path.suffix != ".pub")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & ~allowed:
            raise Conflict(f"{path} can be read by others (mode {mode:o}).", f"chmod {allowed:o} {path}")
    return "readable by its owner only"


QUESTIONS: Mapping[str, Question] = {
    "settings": _settings,
    "ledger": _ledger,
    "state folder": _modes,
    "endpoints' doors": _doors,
    "logins": _logins,
    "policies": _policies,
    "project": _project,
}
