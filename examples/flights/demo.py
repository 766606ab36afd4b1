"""The whole life of a model in one command: a year of real flights, from raw rows to a report.

    python -m examples.flights.demo                 a sample of the flights, some minutes
    python -m examples.flights.demo --full          every flight of May to December
    python -m examples.flights.demo --seed 2 --broken-month 10

This script is three people and an airline. The operator sets up and approves the first model. A colleague, in the month
that you choose, proposes a new model that passes every offline gate and misreads one field of the real requests. Somebody
on call acknowledges alerts. What is released, taken back, or trained again is decided by falaj.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from examples.flights import source
from examples.flights.inbox import Inbox
from examples.flights.network import network_delay
from examples.flights.replay import Airline, Client, Refused, steps

HERE = Path(__file__).resolve().parent
START = datetime(2013, 5, 1, tzinfo=UTC)
END = datetime(2014, 1, 1, tzinfo=UTC)
EVERY = timedelta(hours=1)
ENDPOINT = "delay"
console = Console(log_path=False, log_time_format="[%H:%M:%S]")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.flights.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--seed", type=int, default=1, help="which flights are sampled, how traffic is split, how models are trained"
    )
    parser.add_argument(
        "--broken-month", type=int, default=8, help="month (6 to 10) in which the colleague proposes the new model; 0 for never"
    )
    parser.add_argument("--sample", type=float, default=0.15, help="share of the flights that become requests")
    parser.add_argument("--full", action="store_true", help="every flight becomes a request")
    parser.add_argument("--until", type=datetime.fromisoformat, default=END, help="last day of the replay")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where state and report go; emptied first")
    parser.add_argument("--plain", action="store_true", help="no progress bar")
    given = parser.parse_args(argv)
    given.until = given.until.replace(tzinfo=UTC)
    given.sample = 1.0 if given.full else given.sample
    return given


class Falaj:
    """The installation, as an operator sees it: a command line, and a control plane that runs until it is stopped."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **{f"FALAJ_{name.upper()}": value for name, value in settings.items()}}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str, key: str = "") -> Any:
        """Runs `falaj … --json` and returns what it printed."""
        environment = {**self.environment, **({"FALAJ_API_KEY": key} if key else {})}
        argv = [sys.executable, "-m", "falaj", *words, "--project", str(HERE), "--json"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"falaj {' '.join(words)} failed with {done.returncode}:\n{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def show(self, *words: str) -> None:
        """Runs `falaj …` for a person to read."""
        subprocess.run(
            [sys.executable, "-m", "falaj", *words, "--project", str(HERE)], env=self.environment, timeout=300, check=False
        )

    def up(self) -> None:
        """Starts the control plane and waits until it answers."""
        argv = [sys.executable, "-m", "falaj", "up", "--project", str(HERE)]
        with (self.folder / "control-plane.log").open("ab") as log:
            self.process = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def address(self) -> str:
        """Where the control plane listens now; asked again after every broken connection."""
        return str(json.loads((self.folder / "state" / "api.json").read_text())["url"])

    def serving(self) -> str:
        return str(json.loads((self.folder / "state" / "serving" / ENDPOINT / "server.json").read_text())["url"])

    def stop_serving(self) -> None:
        """An inference server outlives the control plane by design; here nothing is to be left running."""
        place = self.folder / "state" / "serving" / ENDPOINT / "server.json"
        if place.is_file():
            for pid in processes(place):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    process.terminate()
                    process.wait(15)

    def down(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


def set_up(falaj: Falaj, given: argparse.Namespace) -> tuple[Client, Client, Client]:
    """From an empty folder to a first model that serves: the operator's morning. Returns operator, colleague and airline."""
    operator_key = falaj.command("init")["key"]
    falaj.up()
    operator = Client(falaj.address, operator_key)
    operator.call("POST", "/v1/worker:tick", {"now": "2013-05-01T00:00:00Z"})
    approver = Client(falaj.address, _key(operator, "approver", ["approver"], "person"))
    colleague = Client(falaj.address, _key(operator, "colleague", ["ml_engineer"], "person"))
    airline = Client(falaj.serving, _key(operator, "airline-app", ["caller"], "service"))
    console.log("data of January to April taken in, checked against its contracts")
    run = start_release(operator, "delay", START, "first model")
    wait_for_runs(operator, START)
    model = newest_model(operator, run)
    if model is None:
        raise SystemExit(f"The first model did not pass its gates: see `falaj run show {run}` and the report.")
    approver.call("POST", f"/v1/models/{model}:promote", {"alias": "champion", "reason": "looked at its report: first release"})
    approver.close()
    operator.call("POST", f"/v1/endpoints/{ENDPOINT}:deploy", {"model": model, "reason": "first release"})
    console.log(f"model/{model} trained on January to April, gated, signed, approved and served at {falaj.serving()}")
    return operator, colleague, airline


def _key(operator: Client, name: str, roles: list[str], kind: str) -> str:
    return str(operator.call("POST", f"/v1/keys/{name}:create", {"roles": roles, "kind": kind})["key"])


def start_release(client: Client, training: str, at: datetime, reason: str) -> str:
    run = f"release-{training.replace('_', '-')}-{at:%Y%m%d}"
    body = {"step": "release", "params": {"training": training, "at": at.isoformat(), "reason": reason}}
    client.call("POST", f"/v1/runs/{run}:start", body)
    return run


def wait_for_runs(client: Client, now: datetime) -> Mapping[str, Any]:
    """Lets falaj work at the present moment until nothing is running: training takes no time in the replay."""
    while True:
        seen: Mapping[str, Any] = client.call("POST", "/v1/worker:tick", {"now": now.isoformat()})
        if not seen["running"]:
            return seen
        time.sleep(0.1)


def newest_model(client: Client, run: str) -> str | None:
    outputs = client.call("GET", f"/v1/runs/{run}")["outputs"]
    return next((ref.removeprefix("model/") for ref in outputs if ref.startswith("model/")), None)


def replay(given: argparse.Namespace, operator: Client, colleague: Client, airline: Airline, falaj: Falaj) -> None:
    """May to December, step by step: tick, departures as requests, landings as feedback."""
    flights = sampled(given)
    console.log(f"{flights.height:,} flights from {START:%-d %B} to {given.until:%-d %B} become requests, one by one")
    proposal_due = datetime(2013, given.broken_month, 1, tzinfo=UTC) if given.broken_month else None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=given.plain) as progress:
        task = progress.add_task("replay", total=flights.height)
        for now, leave, arrive in steps(flights, START, given.until, EVERY):
            seen = operator.call("POST", "/v1/worker:tick", {"now": now.isoformat()})
            if seen["running"]:
                seen = wait_for_runs(operator, now)
            for line in (*seen["news"], *(f"PROBLEM {text}" for text in seen["problems"])):
                console.log(f"[{now:%-d %b %H:%M}] {line}")
            if proposal_due and now >= proposal_due and not seen["rollouts"]:
                console.log(f"[{now:%-d %b %H:%M}] a colleague proposes a model that reads the network's live delay")
                start_release(colleague, "delay_network", now, "reads the live delay of the network")
                wait_for_runs(operator, now)
                proposal_due = None
            acknowledge(operator, now, seen)
            airline.depart(leave)
            airline.land(arrive)
            progress.update(task, advance=len(leave), description=f"{now:%d %b} ")


def sampled(given: argparse.Namespace) -> pl.DataFrame:
    """The flights that the airline's app asks about; the seed decides which."""
    flights = source.flights(None, END + timedelta(days=30)).filter(
        pl.col("sched_dep_at").is_between(START, given.until, closed="left")
    )
    # The airline's live figure: seconds ahead of the timetable. Only flights that have landed are in it.
    live = network_delay(flights, flights) * -60
    flights = flights.with_columns(pl.Series("network_delay", live).fill_nan(None))
    if given.sample >= 1.0:
        return flights
    chance = random.Random(given.seed)
    return flights.filter(pl.Series([chance.random() < given.sample for _ in range(flights.height)]))


def acknowledge(operator: Client, now: datetime, seen: Mapping[str, Any]) -> None:
    """Somebody on call looks at open alerts at eight in the morning in New York."""
    if now.hour == 12 and now.minute == 0:
        for alert in seen["open_alerts"]:
            operator.call("POST", f"/v1/alerts/{alert}:acknowledge", {})


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    started = time.monotonic()
    folder = given.folder.resolve()
    if folder.exists() and not (folder / "state").is_dir() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something that is not a demo; choose another with --folder.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Inbox() as inbox:
        settings = {
            "state": str(folder / "state"),
            "api_port": "0",
            "serve_port": "0",
            "webhook": inbox.url,
            "seed": str(given.seed),
        }
        falaj = Falaj(folder, settings)
        try:
            operator, colleague, caller = set_up(falaj, given)
            airline = Airline(ENDPOINT, caller)
            replay(given, operator, colleague, airline, falaj)
            finish(falaj, airline, inbox, given)
        except Refused as exc:
            raise SystemExit(f"falaj refused: {exc}\nIts log: {folder / 'control-plane.log'}") from exc
        finally:
            falaj.down()
            falaj.stop_serving()
    console.log(f"done in {time.monotonic() - started:.0f} s")
    return 0


def finish(falaj: Falaj, airline: Airline, inbox: Inbox, given: argparse.Namespace) -> None:
    """The report, one traced prediction, the audit, and what the airline saw."""
    airline.close()
    used = memory(falaj)
    operator_key = (falaj.folder / "state" / "keys" / "operator.key").read_text()
    # A server that is stopped closes its log; one more round takes that into the ledger, so that every prediction is proven.
    falaj.down()
    falaj.stop_serving()
    falaj.command("worker", "tick", "--now", given.until.isoformat(), key=operator_key)
    report = falaj.folder / "report.html"
    falaj.command("report", "write", "--to", str(report), key=operator_key)
    falaj.show("report", "summary")
    picked = random.Random(given.seed).choice(airline.tally.predictions)
    console.rule(f"falaj trace {picked}")
    falaj.show("trace", picked)
    taken = sorted(airline.tally.seconds)
    answers = f"{len(airline.tally.predictions):,} answers, {len(airline.tally.labels):,} outcomes sent back"
    half, most = taken[len(taken) // 2] * 1e3, taken[len(taken) * 99 // 100] * 1e3
    console.log(f"the airline saw {answers}; half within {half:.1f} ms, 99 % within {most:.1f} ms")
    console.log(f"the incident tool got {len(inbox.messages)} messages")
    console.log(f"memory: {used}")
    console.log(f"the report: {report}")


def processes(server: Path) -> list[int]:
    """The inference server's: its supervisor first, which ends its workers with it, then those."""
    told = json.loads(server.read_text())
    return [int(told["pid"]), *(int(worker["pid"]) for worker in told["workers"].values())]


def memory(falaj: Falaj) -> str:
    """Resident memory of the control plane and of the inference server, by the operating system's account."""
    server = processes(falaj.folder / "state" / "serving" / ENDPOINT / "server.json")
    pids = {"control plane": [falaj.process.pid] if falaj.process else [], "inference server": server}
    sizes = {name: sum(psutil.Process(pid).memory_info().rss / 1e6 for pid in some) for name, some in pids.items() if some}
    return ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items()) + f", together {sum(sizes.values()):.0f} MB"


if __name__ == "__main__":
    raise SystemExit(main())
