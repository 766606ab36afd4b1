"""Wiring: opens the adapters that the settings name and builds one object per stage, each when it is first asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from falaj.adapters import open_adapter
from falaj.adapters.local.reference import absolute, ledger_options, online_options, secret
from falaj.clock import Clock
from falaj.config import Settings, blobs_options, load, serving_options
from falaj.core.actor import Actor
from falaj.core.errors import Conflict, MissingDependency, NotFound, Unavailable
from falaj.core.moments import length, moment
from falaj.core.ref import Ref
from falaj.ports.predictions import Predictions
from falaj.stages.action import Kernel

if TYPE_CHECKING:
    from falaj.access import Access
    from falaj.core.note import Verifier
    from falaj.governance import Governance
    from falaj.ports.blobs import Blobs
    from falaj.ports.host import Host
    from falaj.ports.ledger import Ledger
    from falaj.ports.mirror import Mirror
    from falaj.ports.notify import Notify
    from falaj.ports.online import Online
    from falaj.ports.runner import Runner
    from falaj.project import Project
    from falaj.stages.alerts.service import Alerts
    from falaj.stages.contracts.service import Contracts
    from falaj.stages.features.service import Features
    from falaj.stages.gates.service import Gates
    from falaj.stages.governance.audit import Audit
    from falaj.stages.governance.keys import Keys
    from falaj.stages.governance.trace import Trace
    from falaj.stages.monitoring.drift import DriftReference
    from falaj.stages.monitoring.performance import Promise
    from falaj.stages.monitoring.service import Monitors
    from falaj.stages.pipelines.service import Pipelines
    from falaj.stages.registry.service import Registry
    from falaj.stages.rollouts.service import Rollouts
    from falaj.stages.serving.service import Serving
    from falaj.stages.training.service import Trainer
    from falaj.worker import Worker

SETUP = Actor("setup", "system", ("operator",))
"""Who makes the first key: whoever owns the state folder."""


class App:
    """One open project. Close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = settings.state_folder
        self._open: list[Any] = []
        self._logs: dict[str, Predictions] = {}

    # --- adapters ---

    @cached_property
    def ledger(self) -> Ledger:
        settings = self.settings
        options = ledger_options(
            str(settings.ledger), state=self.state, url=str(settings.ledger_url), project=str(settings.name)
        )  # fmt: skip
        ledger: Ledger = self.governance.residency.open("ledger", settings.ledger, **options)
        self._open.append(ledger)
        return ledger

    @cached_property
    def blobs(self) -> Blobs:
        blobs: Blobs = self.governance.residency.open("blobs", self.settings.blobs, **blobs_options(self.settings, secret))
        return blobs

    @cached_property
    def online(self) -> Online:
        options = online_options(
            str(self.settings.online), folder=self.state / "online.lmdb", url=str(self.settings.online_url),
            project=str(self.settings.name),
        )  # fmt: skip
        online: Online = self.governance.sealing.sealed(self.governance.residency.open("online", self.settings.online, **options))
        self._open.append(online)
        return online

    @cached_property
    def host(self) -> Host:
        if self.settings.host == "memory":
            memory: Host = open_adapter("host", "memory")
            return memory
        return self.host_told(self.governance.residency.told())

    def host_told(self, told: Mapping[str, str]) -> Host:
        """The host, whose endpoints are told this of where they may connect to; without anything, to this machine alone."""
        options = {**serving_options(self.settings), **self.access.door(), **told}
        if self.settings.online not in ("lmdb", "memory"):
            url = absolute(str(self.settings.online_url))
            options |= {"online_scheme": str(self.settings.online), "online_url": url, "project": str(self.settings.name)}
        if self.settings.stream != "file":
            options |= {"stream_scheme": str(self.settings.stream), "stream_url": absolute(str(self.settings.stream_url))}
        host: Host = open_adapter(
            "host", str(self.settings.host), folder=self.state / "serving", state=self.state, host=str(self.settings.serve_host),
            port=int(self.settings.serve_port), options=options, pair=self.access.pair,
        )  # fmt: skip
        self._open.append(host)
        return host

    @cached_property
    def runner(self) -> Runner:
        if self.settings.runner == "memory":
            from falaj.steps import execute

            memory: Runner = open_adapter("runner", "memory", call=lambda step, run_id: execute(self, step, run_id))
            return memory
        # The child opens the same project with the same settings; its own process keeps the trainer's memory out of ours.
        argv = [sys.executable, "-m", "falaj", "step", "--project", str(self.settings.folder)]
        runner: Runner = open_adapter(
            "runner", str(self.settings.runner), folder=self.state / "runs", argv=argv, environment=self._child_environment()
        )
        return runner

    def _child_environment(self) -> dict[str, str]:
        given = {
            f"FALAJ_{name.upper()}": str(value.value) for name, value in self.settings.values.items() if value.origin != "default"
        }
        return {**os.environ, **given}

    @cached_property
    def mirror(self) -> Mirror:
        """MLflow where it is installed and asked for; without it, runs are kept in the ledger alone."""
        if self.settings.mirror == "mlflow":
            uri = str(self.settings.mlflow_uri) or f"sqlite:///{self.state / 'mlflow.db'}"
            try:
                mirror: Mirror = self.governance.residency.open(
                    "mirror", "mlflow", tracking_uri=uri, artifact_folder=self.state / "mlartifacts"
                )
                return mirror
            except MissingDependency:
                if self.settings.values["mirror"].origin != "default":
                    raise
        none: Mirror = open_adapter("mirror", "none")
        return none

    @cached_property
    def notify(self) -> Notify:
        if not self.settings.webhook:
            log: Notify = open_adapter("notify", "log")
            return log
        hook: Notify = self.governance.residency.open(
            "notify", "webhook", url=str(self.settings.webhook), secret=secret(str(self.settings.webhook_secret))
        )
        return hook

    def predictions_of(self, endpoint: str) -> Predictions:
        """The prediction log of one endpoint; one object each, since it remembers where it was."""
        if endpoint not in self._logs:
            self._logs[endpoint] = self._log(endpoint)
        return self._logs[endpoint]

    def _log(self, endpoint: str) -> Predictions:
        folder = self.state / "serving" / Ref("endpoint", endpoint).name / "segments"
        return self.governance.sealing.opened(open_adapter("predictions", "file", folder=folder), endpoint)

    # --- the project and the kernel ---

    @cached_property
    def project(self) -> Project:
        from falaj.project import load_project

        return load_project(self.settings.folder, str(self.settings.modules))

    @cached_property
    def clock(self) -> Clock:
        start = moment(str(self.settings.replay_from))
        if self.settings.clock == "replay":
            # It goes on where the ledger stands, also in another process; what came before the last checkpoint need not be read.
            signed = self.ledger.checkpoints()
            latest = [event.at for event in self.ledger.events(after=(signed[-1].size - 2 if signed else -1))]
            start = max([start, *latest])
        return Clock(str(self.settings.clock), start)

    @cached_property
    def kernel(self) -> Kernel:
        policing = self.governance.policing
        return Kernel(self.governance.writable(self.ledger), policing.policy, self.clock, policing.labels)

    # --- stages ---

    @cached_property
    def access(self) -> Access:
        from falaj.access import Access

        return Access(self.settings, lambda: self.kernel, self.governance.residency.look)

    @property
    def keys(self) -> Keys:
        return self.access.keys

    @cached_property
    def contracts(self) -> Contracts:
        from falaj.stages.contracts.service import Contracts

        return Contracts(
            self.kernel, self.blobs, self.project.datasets, self.settings.folder,
            open_source=self.governance.residency.open_source, drafts=self.state / "drafts",
            vaults=lambda: self.governance.sealing.vault, zone=str(self.settings.zone),
        )  # fmt: skip

    @cached_property
    def features(self) -> Features:
        from falaj.stages.features.large import Room
        from falaj.stages.features.service import Features

        room = Room(self.settings.memory_bytes, self.state / "aside")
        return Features(self.kernel, self.contracts, self.online, self.project.views, room)

    @cached_property
    def pipelines(self) -> Pipelines:
        from falaj.stages.pipelines.service import Pipelines
        from falaj.steps import STEPS

        return Pipelines(self.kernel, self.runner, tuple(STEPS))

    @cached_property
    def trainer(self) -> Trainer:
        from falaj.inference.models import scorer
        from falaj.stages.training.service import Source, Trainer

        rows = self.governance.privacy.permitted(self.contracts)
        source = Source(rows, self.features, self.project.code, self.governance.sealing.people)
        return Trainer(self.kernel, self.blobs, source, trainings=self.project.trainings, mirror=self.mirror, opened=scorer)

    @cached_property
    def gates(self) -> Gates:
        from falaj.inference.models import scorer
        from falaj.stages.gates.service import Gates

        gates = Gates(self.kernel, self.blobs, self.features, self.project.gates, opened=scorer)
        gates.people = self.governance.sealing.people
        return gates

    @cached_property
    def registry(self) -> Registry:
        from falaj.adapters.local.signing import open_key, sign_envelope
        from falaj.stages.registry.service import Registry
        from falaj.stages.training.classes import classes_of

        key = open_key(self.state / "keys" / "model.ed25519")
        registry = Registry(
            self.kernel, self.blobs, sign=lambda payload, kind: sign_envelope(payload, kind, key),
            places=lambda recipe: {name: list(self.features.view(name).places) for name in recipe.views}, mirror=self.mirror,
            classes=lambda name, recipe: classes_of(
                recipe, getattr(self.project.trainings.get(name), "spine", ""), self.features.views, self.contracts.contract),
        )  # fmt: skip
        registry.demands = self.governance.policing.demands
        return registry

    @cached_property
    def rollouts(self) -> Rollouts:
        from falaj.stages.rollouts.endpoints import Endpoints
        from falaj.stages.rollouts.service import Rollouts

        demands, excluded = self.governance.policing.demands, self.governance.privacy.excluded
        return Rollouts(Endpoints(self.kernel, self.host, self.project.endpoints, self.access.allowed, demands, excluded))

    @cached_property
    def monitors(self) -> Monitors:
        from falaj.stages.monitoring.service import Monitors

        monitors = {monitor.endpoint: monitor for monitor in self.project.monitors.values()}
        return Monitors(
            self.kernel,
            streams=self.predictions_of,
            blobs=self.blobs,
            host=self.host,
            monitors=monitors,
            endpoints=self.project.endpoints,
        )

    def normal_of(self, model: Ref, threshold: float) -> tuple[DriftReference, Promise]:
        """What was normal while a registered model learned, and what it promised on its sealed holdout at that threshold."""
        from falaj.core.asset import Asset
        from falaj.core.codec import decode
        from falaj.stages.monitoring.drift import calibrate
        from falaj.stages.monitoring.performance import Promise
        from falaj.stages.training.rules import brier, wrong_rate

        labels = decode(Asset, self.registry.get(model)["asset"]).labels
        usual, sealed = (
            self.governance.sealing.people.opened(self.blobs.get(str(labels[kept])), model.name)
            for kept in ("reference", "holdout")
        )
        y, score = sealed["_y"].to_numpy(), sealed["_score"].to_numpy()
        endpoint = next(e for e in self.project.endpoints.values() if e.model == model.name)
        window = length(self.project.monitors[endpoint.name].window)
        times = usual["at"].dt.epoch("ms").to_numpy()
        reference = calibrate(usual.columns[1:], usual.drop("at").to_numpy(), times, window=window)
        return reference, Promise(wrong_rate(y, score, threshold), brier(y, score), len(y))

    @cached_property
    def governance(self) -> Governance:
        from falaj.governance import Governance

        return Governance(self)

    @property
    def audit(self) -> Audit:
        return self.governance.audit

    @property
    def trace(self) -> Trace:
        return self.governance.trace

    @property
    def verifier(self) -> Verifier:
        return self.governance.verifier

    @cached_property
    def serving(self) -> Serving:
        from falaj.stages.serving.service import Serving

        return Serving(self.kernel, self.predictions_of)

    @cached_property
    def alerts(self) -> Alerts:
        from falaj.stages.alerts.service import Alerts

        return Alerts(self.kernel, self.notify)

    @cached_property
    def worker(self) -> Worker:
        from falaj.worker import Worker

        return Worker(self)

    def opened(self, adapter: Any) -> None:
        """Closes the adapter with the project."""
        self._open.append(adapter)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_app(folder: Path, overrides: Mapping[str, Any] | None = None) -> App:
    """Opens the project in `folder`. Raises NotFound where it was never initialised."""
    settings = load(folder.resolve(), overrides)
    if settings.ledger != "memory" and not (settings.state_folder / "keys" / "pepper").is_file():
        raise NotFound(f"{settings.state_folder} holds no falaj project.", f"falaj init --project {folder}")
    return App(settings)


def init_project(folder: Path, overrides: Mapping[str, Any] | None = None) -> str:
    """Makes the state folder, its keys and the operator's key, which is returned and kept in keys/operator.key.

    Raises Conflict where the project has a state already, NotFound where there is no such folder, Unavailable where it
    cannot be written.
    """
    from falaj.adapters.local.signing import open_key, open_secret, write_once
    from falaj.governance import refuse_second

    settings = load(folder.resolve(), overrides)
    keys = settings.state_folder / "keys"
    if not settings.folder.is_dir():
        raise NotFound(f"There is no folder {settings.folder}.", "make it, or name another with --project.")
    if (keys / "pepper").exists():
        raise Conflict(f"{settings.state_folder} holds a project already.", "its first key is in keys/operator.key.")
    refuse_second(settings)
    try:
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.state_folder.chmod(0o700)
    except OSError as exc:
        raise Unavailable(
            f"{settings.state_folder} cannot be written: {exc.strerror}.", "check who owns it, or set `state` to another folder."
        ) from exc
    open_key(keys / "ledger.ed25519")
    open_key(keys / "model.ed25519")
    open_secret(keys / "pepper", lambda: os.urandom(32))
    with App(settings) as app:
        text = app.keys.create(SETUP, Ref("key", "operator"), roles=["operator"], kind="person")
        write_once(keys / "operator.key", text.encode())
        app.ledger.checkpoint()
    return text
