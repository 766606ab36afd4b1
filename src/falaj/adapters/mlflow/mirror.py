"""Copies runs and registered models to MLflow: into a SQLite file without any server, or to a server by its address."""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from falaj.core.errors import FalajError, InvalidInput, MissingDependency, NotFound, Unavailable
from falaj.ports.mirror import Mirror, Tracked

RUN, REF = "falaj.run_id", "falaj.ref"
"""The tags by which a copy is found again."""
LONGEST_PARAM, LONGEST_TAG = 500, 5000
"""What every MLflow server of the last years takes."""
_BATCH, _BATCH_PARAMS = 1000, 100
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server that is gone must not hold up a training for minutes: the copy is made again later.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class MlflowMirror:
    """`artifact_folder` takes the artifacts where no server does. MLflow itself is imported at the first copy."""

    def __init__(self, tracking_uri: str, artifact_folder: Path) -> None:
        if not tracking_uri.startswith(("sqlite:///", "http://", "https://")):
            raise InvalidInput(
                f"{tracking_uri!r} is no address that runs can be mirrored to.", "write sqlite:///… or http(s)://…"
            )
        needed = ("mlflow",) if tracking_uri.startswith("http") else ("mlflow", "sqlalchemy", "alembic")
        for package in needed:
            if find_spec(package) is None:
                raise MissingDependency.of("The adapter 'mirror.mlflow'", package, "mlflow")
        self.tracking_uri = tracking_uri
        self.artifact_folder = artifact_folder

    def record_run(self, tracked: Tracked) -> str:
        with _border(self.tracking_uri):
            experiment = self._experiment(tracked.experiment)
            run = self._find(experiment, tracked.run_id) or self._client.create_run(
                experiment, tags={RUN: tracked.run_id}, run_name=tracked.run_id
            )
            copied: str = run.info.run_id
            self._write_params(run, tracked.params)
            self._write_metrics(run, tracked)
            for name, text in tracked.tags.items():
                self._client.set_tag(copied, _key(name), str(text)[:LONGEST_TAG])
            self._write_artifacts(copied, tracked.artifacts)
            if run.info.status != "FINISHED":
                self._client.set_terminated(copied, "FINISHED")
            return copied

    def record_model(self, name: str, version: str, *, run: str, source: str, tags: Mapping[str, str]) -> None:
        with _border(self.tracking_uri):
            found = self._version(name, version) or self._new_version(name, version, run, source)
            for key, text in tags.items():
                self._client.set_model_version_tag(name, found, _key(key), str(text)[:LONGEST_TAG])

    def record_alias(self, name: str, alias: str, version: str) -> None:
        with _border(self.tracking_uri):
            found = self._version(name, version)
            if found is None:
                raise NotFound(f"MLflow has no copy of model/{name}@{version}.", "register the version again: it is copied then.")
            self._client.set_registered_model_alias(name, alias, found)

    @cached_property
    def _client(self) -> Any:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        with _own_logging():
            from mlflow.tracking import MlflowClient

            client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
            client.search_experiments(max_results=1)  # a new SQLite file gets its tables here
        return client

    def _experiment(self, name: str) -> str:
        client = self._client
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        is_local = self.tracking_uri.startswith("sqlite:///")
        place = (self.artifact_folder.resolve() / name).as_uri() if is_local else None
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except Exception:
            known = client.get_experiment_by_name(name)  # somebody else was faster
            if known is None:
                raise
            return str(known.experiment_id)

    def _find(self, experiment: str, run_id: str) -> Any:
        if "'" in run_id:
            raise InvalidInput(f"{run_id!r} is not a run's id.")
        found = self._client.search_runs([experiment], f"tags.`{RUN}` = '{run_id}'", max_results=1)
        return found[0] if found else None

    def _registered(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except Exception:
            self._client.get_registered_model(name)  # it is there already, or this raises

    def _new_version(self, name: str, version: str, run: str, source: str) -> str:
        self._registered(name)
        behind = self._find(self._experiment(name), run) if run else None
        copied = behind.info.run_id if behind else None
        return str(self._client.create_model_version(name, source, copied, tags={REF: f"model/{name}@{version}"}).version)

    def _version(self, name: str, version: str) -> str | None:
        """MLflow counts versions by itself; ours is a tag."""
        wanted = f"model/{name}@{version}"
        token = None
        while True:
            page = self._client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
            for found in page:
                if found.tags.get(REF) == wanted:
                    return str(found.version)
            token = page.token
            if not token:
                return None

    def _write_params(self, run: Any, params: Mapping[str, Any]) -> None:
        """MLflow never changes a param: a value that differs from the one that is there becomes a tag."""
        from mlflow.entities import Param

        wanted = {_key(name): _short(str(value)) for name, value in params.items()}
        fresh = [Param(name, value) for name, value in wanted.items() if name not in run.data.params]
        for low in range(0, len(fresh), _BATCH_PARAMS):
            self._client.log_batch(run.info.run_id, params=fresh[low : low + _BATCH_PARAMS])
        for name, value in wanted.items():
            if run.data.params.get(name, value) != value:
                self._client.set_tag(run.info.run_id, f"falaj.param.{name}", value)

    def _write_metrics(self, run: Any, tracked: Tracked) -> None:
        """At times that follow from the run alone, so that the same values again are the same rows."""
        from mlflow.entities import Metric

        start = run.info.start_time
        last = max((len(values) for values in tracked.curves.values()), default=0)
        points = [(name, value, start + last, 0) for name, value in tracked.metrics.items()]
        for name, values in tracked.curves.items():
            points += [(name, value, start + step, step) for step, value in enumerate(values)]
        metrics = [Metric(_key(name), float(value), at, step) for name, value, at, step in points if math.isfinite(value)]
        for low in range(0, len(metrics), _BATCH):
            self._client.log_batch(run.info.run_id, metrics=metrics[low : low + _BATCH])

    def _write_artifacts(self, run: str, artifacts: Mapping[str, bytes]) -> None:
        if not artifacts:
            return
        with tempfile.TemporaryDirectory(prefix="falaj-") as folder:
            for name, data in artifacts.items():
                inside = PurePosixPath(name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise InvalidInput(f"{name!r} cannot name an artifact.")
                path = Path(folder) / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            self._client.log_artifacts(run, folder)


@contextmanager
def _border(uri: str) -> Iterator[None]:
    """MLflow, SQLAlchemy and requests each raise their own; none of their words leaves this file."""
    try:
        yield
    except FalajError:
        raise
    except Exception as exc:
        place = re.sub(r"//[^/@]*@", "//…@", uri)
        why = f"{type(exc).__name__}: {str(exc)[:300]}"
        raise Unavailable(f"MLflow at {place} did not take it: {why}", "falaj goes on without the copy.") from exc


@contextmanager
def _own_logging() -> Iterator[None]:
    """MLflow's migrations set up the process's logging as they like it: afterwards it is as it was, and MLflow is quiet."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _key(name: str) -> str:
    """MLflow's names take letters, digits and _ - . space / only."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_PARAM else text[: LONGEST_PARAM - 1] + "…"


_keeps_the_port: type[Mirror] = MlflowMirror
