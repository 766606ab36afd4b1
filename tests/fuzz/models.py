"""Mutates valid model files and opens them: a model that runs or a FalajError comes out, nothing else, and the process lives.

    python -m tests.fuzz.models --rounds 20000 --seed 1
    python -m tests.fuzz.models --libraries          # the same files, opened by LightGBM and XGBoost themselves

Rounds run in child processes, because a parser that takes the whole process down has to be seen too.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from collections import Counter

import numpy as np

from falaj.core.errors import FalajError
from falaj.inference.models.model import Stored, program
from tests.fuzz.readers import mutated
from tests.kits.stored import COLUMNS, rows, stored

FORMS = ("onnx", "lightgbm", "xgboost", "xgboost.json", "safetensors")
MEMORY, CHILD_S, CHILD_ROUNDS = 4 << 30, 120, 200


def opened(form: str, data: bytes) -> str:
    """`runs`, or the name of the error that said what is wrong."""
    try:
        loaded = program(data, Stored(form.partition(".")[0], COLUMNS))
        for count in (3, 70):
            for output in loaded.run(rows(count)):
                assert len(output) in (count, 1)
    except FalajError as exc:
        return type(exc).__name__
    return "runs"


def by_library(form: str, data: bytes) -> str:
    """The same by the library whose format it is."""
    try:
        if form == "lightgbm":
            import lightgbm

            lightgbm.Booster(model_str=data.decode("utf-8", "replace")).predict(rows(3), num_threads=1)
        else:
            import xgboost

            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(bytearray(data))
            booster.inplace_predict(np.nan_to_num(rows(3)))
    except Exception as exc:
        return type(exc).__name__
    return "runs"


def some_rounds(form: str, seed: int, count: int, *, libraries: bool = False) -> Counter[str]:
    chance = random.Random(seed)
    data = stored(form)
    seen: Counter[str] = Counter()
    for _ in range(count):
        harmed = mutated(data, chance)
        seen[f"{form} {(by_library if libraries else opened)(form, harmed)}"] += 1
    return seen


def in_a_child(form: str, seed: int, count: int, *, libraries: bool = False) -> tuple[int, str, str]:
    """Exit code (124: it did not end), what it counted, and what it complained of."""
    argv = [sys.executable, "-m", "tests.fuzz.models", "--child", form, "--seed", str(seed), "--rounds", str(count)]
    try:
        done = subprocess.run(
            [*argv, *(["--libraries"] if libraries else [])],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "", "it did not end"
    return done.returncode, done.stdout, done.stderr


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=2000, help="for each format")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--libraries", action="store_true", help="open by LightGBM and XGBoost themselves")
    asked.add_argument("--only", default="", help="one format, such as onnx")
    asked.add_argument("--child", default="")
    given = asked.parse_args()
    if given.child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for what, count in some_rounds(given.child, given.seed, given.rounds, libraries=given.libraries).items():
            sys.stdout.write(f"{count}\t{what}\n")
        return 0
    total: Counter[str] = Counter()
    began, broken = time.monotonic(), 0
    for form in [form for form in (FORMS[1:4] if given.libraries else FORMS) if form.startswith(given.only)]:
        for first in range(0, given.rounds, CHILD_ROUNDS):
            seed, count = given.seed * 1_000_003 + first, min(CHILD_ROUNDS, given.rounds - first)
            code, said, wrong = in_a_child(form, seed, count, libraries=given.libraries)
            if code:
                broken += 1
                sys.stdout.write(f"{form}, seed {seed}: exit {code}\n{wrong[-1500:]}\n")
            for line in said.splitlines():
                number, _, what = line.partition("\t")
                if number.isdigit():
                    total[what] += int(number)
    for what, number in sorted(total.items()):
        sys.stdout.write(f"{number:>8}  {what}\n")
    sys.stdout.write(f"{sum(total.values())} rounds in {time.monotonic() - began:.0f} s, {broken} children broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
