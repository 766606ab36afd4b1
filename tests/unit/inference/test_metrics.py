"""What is counted, added up over workers and restarts, and shown in a text that Prometheus reads."""

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falaj.inference.exposition import Family, add, render
from falaj.inference.metrics import BOUNDS, FRESH_S, Metrics

ARM = ("model/delay@1", "1", "champion")
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
LINE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.e+-]+|\+Inf|NaN)")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Reads the text format 0.0.4 strictly: help and type before the first sample of each family, no family twice, every sample
    of a declared family, no sample twice, buckets that grow, +Inf as many as the count."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    found: Samples = {}
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in kinds, f"{current} stands twice"
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current
            kinds[name] = kind
            assert kind in ("counter", "gauge", "histogram")
            assert kind != "counter" or name.endswith("_total")
        else:
            match = LINE.fullmatch(line)
            assert match, line
            name, labels = match[1], tuple(sorted((k, v) for k, v in re.findall(LABEL, match[2] or "")))
            family = re.sub(r"_(bucket|sum|count)$", "", name) if kinds[current] == "histogram" else name
            assert family == current, line
            assert (name, labels) not in found, line
            found[name, labels] = float(match.groups()[-1])
    check_histograms(found, kinds)
    return found


def check_histograms(found: Samples, kinds: dict[str, str]) -> None:
    buckets: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[float, float]]] = defaultdict(list)
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            bound = float(dict(labels)["le"])
            buckets[name.removesuffix("_bucket"), tuple(p for p in labels if p[0] != "le")].append((bound, value))
    for (name, labels), pairs in buckets.items():
        assert kinds[name] == "histogram"
        assert pairs == sorted(pairs)
        assert [count for _, count in pairs] == sorted(count for _, count in pairs)
        assert pairs[-1] == (float("inf"), found[f"{name}_count", labels])
        assert (f"{name}_sum", labels) in found


def one(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def arm(model: str = ARM[0], version: str = ARM[1], role: str = ARM[2]) -> dict[str, str]:
    return {"model": model, "version": version, "arm": role}


def test_a_batch_counts_as_its_requests_do_one_by_one() -> None:
    single, batch = Metrics(), Metrics()
    times = [0.00004, 0.0003, 0.0031, 9.0, 99.0]
    for seconds in times:
        single.answered(ARM, seconds, 3)
    batch.answered_many(ARM, times, 15)
    names = ("falaj_requests_total", "falaj_predictions_total", "falaj_latency_seconds")
    assert all(single._snapshot()[name] == batch._snapshot()[name] for name in names)


def test_whatever_is_counted_is_shown_in_a_text_that_can_be_read() -> None:
    metrics = Metrics(None, "http-0")
    metrics.answered(ARM, 0.001, 2)
    metrics.failed(('model/"odd"\\\n@1', "1", "shadow"))
    metrics.refused("denied")
    metrics.batched(64, 0.0001)
    metrics.synced(0.002)
    metrics.gauges["connections"] = lambda: 3
    metrics.devices = lambda: [("0", 1 << 30, 80 << 30, 0.25)]
    text = metrics.text()
    assert one(text, "falaj_requests_total", **arm()) == 1
    assert one(text, "falaj_errors_total", **arm('model/\\"odd\\"\\\\\\n@1', "1", "shadow")) == 1
    assert one(text, "falaj_latency_seconds_bucket", **arm(), le="0.001") == 1
    assert one(text, "falaj_latency_seconds_bucket", **arm(), le="0.0007") == 0
    assert one(text, "falaj_batch_rows_bucket", le="32.0") == 0
    assert one(text, "falaj_batch_rows_sum") == 64
    assert one(text, "falaj_connections", worker="http-0") == 3
    assert one(text, "falaj_gpu_memory_used_bytes", gpu="0") == 1 << 30
    assert one(text, "process_resident_memory_bytes", worker="http-0") > 1 << 20
    assert one(text, "process_open_fds", worker="http-0") > 2


def test_times_are_told_apart_from_fifty_microseconds_up() -> None:
    assert BOUNDS[0] == 0.00005
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert all(b / a <= 1.7 for a, b in pairwise(BOUNDS) if b <= 1.0)


def test_every_worker_shows_the_sum_of_all(tmp_path: Path) -> None:
    here, there = Metrics(tmp_path, "http-0"), Metrics(tmp_path, "http-1")
    for metrics, times in ((here, 2), (there, 3)):
        for _ in range(times):
            metrics.answered(ARM, 0.001)
    there.save()
    text = here.text()
    assert one(text, "falaj_requests_total", **arm()) == 5
    assert one(text, "falaj_latency_seconds_count", **arm()) == 5
    assert one(text, "process_cpu_seconds_total", worker="http-1") >= 0


def test_a_worker_that_was_killed_goes_on_from_what_it_last_showed(tmp_path: Path) -> None:
    killed = Metrics(tmp_path, "http-0")
    killed.answered(ARM, 0.001)
    shown = killed.text()
    killed.answered(ARM, 0.001)  # never shown to anybody
    following = Metrics(tmp_path, "http-0")
    assert one(following.text(), "falaj_requests_total", **arm()) == one(shown, "falaj_requests_total", **arm()) == 1
    following.answered(ARM, 0.001)
    assert one(following.text(), "falaj_requests_total", **arm()) == 2
    assert one(Metrics(tmp_path, "http-0").text(), "falaj_requests_total", **arm()) == 2


def test_one_that_is_gone_counts_with_what_it_did_and_not_with_what_it_held(tmp_path: Path) -> None:
    gone = Metrics(tmp_path, "http-1")
    gone.answered(ARM, 0.001)
    gone.gauges["connections"] = lambda: 9
    gone.save()
    path = tmp_path / "http-1.json"
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "at": body["at"] - FRESH_S - 1}))
    text = Metrics(tmp_path, "http-0").text()
    assert one(text, "falaj_requests_total", **arm()) == 1
    assert "http-1" not in text


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]", b'{"families": {"falaj_labels_total": {"[]": 1}}}'])
def test_a_file_that_cannot_be_read_costs_its_own_numbers_only(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "http-0.json").write_bytes(rubbish)
    metrics = Metrics(tmp_path, "http-0")
    metrics.answered(ARM, 0.001)
    assert one(metrics.text(), "falaj_requests_total", **arm()) == 1


def test_a_disk_without_room_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder is wanted")
    metrics = Metrics(tmp_path / "file", "http-0")
    metrics.answered(ARM, 0.001)
    metrics.save()
    assert one(metrics.text(), "falaj_requests_total", **arm()) == 1


def test_buckets_of_another_version_are_left_out() -> None:
    found = {"h": {"[]": [1.0, 1, 2]}}
    add(found, {"h": {"[]": [1.0, 1]}})
    assert found == {"h": {"[]": [1.0, 1, 2]}}


@given(
    st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=5), st.dictionaries(st.text(max_size=5), st.integers(0, 9))
)
def test_sums_do_not_depend_on_the_order_and_any_text_can_be_a_label(a: dict[str, int], b: dict[str, int]) -> None:
    def snapshot(values: dict[str, int]) -> dict[str, dict[str, int]]:
        return {"x_total": {json.dumps([name]): value for name, value in values.items()}}

    one_way, other = snapshot(a), snapshot(b)
    add(one_way, snapshot(b))
    add(other, snapshot(a))
    assert one_way == other
    family = Family("x_total", "counter", "Odd\nhelp \\.", ("label",))
    text = render((family,), one_way)
    assert text.count("\nx_total{") == len(set(a) | set(b))
