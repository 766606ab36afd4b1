"""Wiring of batch scoring: a registered model, verified as a server verifies it, over a file or a period of a dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falaj.adapters import open_adapter
from falaj.adapters.tabular.address import inside
from falaj.core.actor import Actor
from falaj.core.asset import Asset
from falaj.core.codec import decode, digest_of
from falaj.core.errors import Conflict, FalajError, InvalidInput, NotFound
from falaj.core.moments import iso, moment
from falaj.core.recipe import Recipe
from falaj.core.ref import Ref
from falaj.ports.host import Arm, Wanted

if TYPE_CHECKING:
    import polars as pl

    from falaj.app import App
    from falaj.inference.models import Live
    from falaj.stages.scoring.service import Looked, Scorer, Table

DAY = timedelta(days=1)
AT_ONCE = 256
"""Rows whose stored features are read in one go; as many as an endpoint takes in a call."""


def score(app: App, actor: Actor, model: Ref, asked: Mapping[str, Any], run_id: str = "") -> Ref:
    """Scores what is asked for and returns the scores' asset; see the operation `model.score` for what `asked` holds.

    `run_id`: of a run that was started already. Raises as `Scoring.score` does, InvalidInput for what does not fit together,
    NotFound for a model, file or dataset that is not there.
    """
    from falaj.stages.scoring.service import Job, Scoring

    live = _opened(app, model)
    recipe, is_online = live.model.recipe, asked.get("features") == "online"
    folder = _output(app, str(asked.get("output") or ""), str(asked.get("input") or ""))
    now = app.kernel.now()
    params = {name: value for name, value in asked.items() if value not in (None, (), "")}
    job = Job(
        _dataset(app, model, asked) if asked.get("dataset") else _files(app, str(asked.get("input") or "")),
        _scorer(app, live, str(asked.get("endpoint") or "")),
        _online(app, live, now) if is_online else _as_of(app),
        folder,
        "online" if is_online else "as_of",
        tuple(asked.get("carry") or ()),
        () if is_online else tuple(asset.ref for view in recipe.views for asset in _behind(app, view)),
        iso(now) if is_online else "",
        {**params, "model": str(model)},
        str(asked.get("endpoint") or "").removeprefix("endpoint/"),
    )
    run = run_id or f"score-{job.plan.removeprefix('sha256:')[:16]}"
    return Scoring(app.kernel, app.blobs).score(actor, model, job=job, run_id=run)


def model_of(app: App, text: str, endpoint: str) -> Ref:
    """The version that is meant: itself, an alias, or what the endpoint's champion is; without either the model's champion.

    Raises Conflict for an endpoint that was taken out of use: its model scores no file either.
    """
    if endpoint:
        record = app.ledger.get("endpoint", endpoint)
        if record is None:
            app.project.one("endpoints", endpoint)
            raise NotFound(f"Nothing is served on endpoint/{endpoint} yet.", f"falaj endpoint deploy {endpoint}")
        wanted = decode(Wanted, record["wanted"])
        if wanted.killed:
            raise Conflict(
                f"endpoint/{endpoint} was taken out of use at {wanted.killed['at']}.", f"falaj endpoint show {endpoint}"
            )
        arms = wanted.arms
        return Ref.parse(next(arm.model for arm in arms if arm.role == "champion"))
    return app.registry.resolve(text if "@" in text else f"{text}@champion")


def _opened(app: App, model: Ref) -> Live:
    """The model, its signature checked before anything of it is used."""
    from falaj.adapters.local.signing import checker, load_public
    from falaj.inference.mask import mask_key
    from falaj.inference.models import Models

    record = app.registry.get(model)
    verify = checker(load_public(app.state / "keys" / "model.ed25519.pub"))
    arm = Arm("champion", str(model), str(record["asset"]["digest"]), 1.0, f"release/{model.name}@0", record["manifest"])
    key = mask_key((app.state / "keys" / "pepper").read_bytes())  # no log is written here, but one could be
    return (
        Models(app.blobs, verify, key, vaults=lambda: app.governance.sealing.vault)
        .open(Wanted(model.name, 1, (arm,), "", 0.5))
        .arms[0]
    )


def _scorer(app: App, live: Live, endpoint: str) -> Scorer:
    import numpy as np

    from falaj.stages.scoring.rules import Named
    from falaj.stages.scoring.service import Scorer

    model = Ref.parse(live.arm.model)
    threshold = app.registry.manifest(model).get("threshold", 0.5)
    if endpoint:
        threshold = app.project.one("endpoints", endpoint).threshold
    held = live.model
    named = Named(str(model.bare), str(model.version), float(threshold))
    return Scorer(held.recipe, lambda matrix: np.array(held.scores(held.run(matrix))), live.arm.digest, named)


def _output(app: App, path: str, source: str) -> Path:
    if not path:
        raise InvalidInput("The scores need a folder.", "--output scores/2026-01, a folder in the project.")
    folder = inside(app.settings.folder, path).resolve()
    read = inside(app.settings.folder, source).resolve() if source else None
    if folder == app.settings.folder or folder.is_relative_to(app.state.resolve()) or (read and folder.is_relative_to(read)):
        raise InvalidInput(f"{path} cannot hold scores.", "name a folder of its own in the project.")
    return folder


def _files(app: App, path: str) -> Table:
    """A Parquet file of the project, or a folder of them."""
    from falaj.stages.scoring.service import Table

    if not path:
        raise InvalidInput("There is nothing to score.", "--input data/trips.parquet, or --dataset trips --since 7d.")
    named = inside(app.settings.folder, path)
    found = sorted(file for file in named.glob("*.parquet") if file.is_file()) if named.is_dir() else [named]
    if not found or not all(file.is_file() for file in found):
        raise NotFound(f"There is no Parquet file {path} in the project's folder.", "name a file, or a folder of them.")
    if not all(file.resolve().is_relative_to(app.settings.folder.resolve()) for file in found):
        raise InvalidInput(f"{path} leads out of the project's folder.", "copy it into the project.")
    before, digest = _prints(found), digest_of([_digest(file) for file in found])
    ref = Ref("file", re.sub(r"[^a-z0-9_.-]+", "-", named.name.lower()).strip("-.") or "input", digest[7:19])
    asset = Asset(ref, digest, f"project:{path}", labels={"files": len(found)}, created_at=app.kernel.now())

    def pieces() -> Iterator[pl.DataFrame]:
        # By the reader that survives damaged files; each piece is a part of a group of rows.
        source: Any = open_adapter("source", "files", folder=app.settings.folder, path=path, format="parquet")
        yield from source.read(None, app.kernel.now())

    return Table(pieces, digest, (ref,), (asset,), lambda: _prints(found) == before)


def _dataset(app: App, model: Ref, asked: Mapping[str, Any]) -> Table:
    """A period of a dataset, day by day, its rows made requests as the model's training made them."""
    from falaj.stages.scoring.service import Table

    name = str(asked["dataset"])
    app.project.one("datasets", name)
    if asked.get("input") or not asked.get("since"):
        raise InvalidInput(
            "A dataset is scored for a period." if not asked.get("since") else "A file and a dataset are given.",
            "--dataset trips --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z",
        )
    since, until = _moment(asked["since"]), _moment(asked.get("until") or app.kernel.now())
    training = app.project.trainings.get(str(app.registry.get(model)["training"]))
    prepare = training.prepare if training is not None and training.spine == name else None
    permitted = app.governance.privacy.permitted(app.contracts, "scoring")
    assets, without = permitted.assets(name, since, until), sorted(permitted.excluded())

    def pieces() -> Iterator[pl.DataFrame]:
        start = since
        while start < until:
            rows = permitted.frame(name, since=start, until=min(start + DAY, until))
            start += DAY
            yield prepare(rows) if prepare is not None else rows

    about = {"dataset": name, "since": iso(since), "until": iso(until), "assets": [[str(a.ref), a.digest] for a in assets]}
    about |= {"without": digest_of(without)} if without else {}
    code = app.project.code if prepare is not None else ""
    return Table(pieces, digest_of({**about, "prepare": code}), tuple(asset.ref for asset in assets))


def _as_of(app: App) -> Looked:
    def look(recipe: Recipe, rows: pl.DataFrame) -> tuple[Any, Sequence[str | None]]:
        vectors, _ = app.features.training_frame(recipe, rows)
        return vectors, [None] * rows.height

    return look


def _online(app: App, live: Live, now: datetime) -> Looked:
    """As an endpoint would answer now: the stored rows of this moment, and the refusals of an endpoint, row by row."""
    import numpy as np

    from falaj.inference.rows import Row, fill, keys_of, read

    def look(recipe: Recipe, rows: pl.DataFrame) -> tuple[Any, Sequence[str | None]]:
        matrix = np.full((rows.height, len(recipe.columns)), np.nan, np.float32)
        told: list[str | None] = [None] * rows.height
        for start in range(0, rows.height, AT_ONCE):
            asked: list[tuple[int, Row, Mapping[str, str]]] = []
            for place, request in enumerate(rows[start : start + AT_ONCE].iter_rows(named=True), start):
                row = Row(live, now, "", False, "", request)
                try:
                    asked.append((place, row, keys_of([row])[0]))
                except InvalidInput as exc:
                    told[place] = exc.message[:200]
            stored = iter(read(app.online, [pair for _, _, keys in asked for pair in keys.items()]))
            for place, row, keys in asked:
                held = {view: next(stored) for view in keys}
                try:
                    fill([row], [held])
                    matrix[place] = row.features
                except InvalidInput as exc:
                    told[place] = exc.message[:200]
        return matrix, told

    return look


def _behind(app: App, view: str) -> list[Asset]:
    try:
        return app.contracts.assets(app.features.view(view).dataset)
    except FalajError:  # a view that is declared no more: looking it up will say so
        return []


def _moment(given: Any) -> datetime:
    return given if isinstance(given, datetime) else moment(str(given))


def _prints(files: Sequence[Path]) -> list[tuple[str, int, int]]:
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
