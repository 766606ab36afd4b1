"""What every mirror must keep. Subclass it, give it `mirror()`, and run it with pytest."""

from __future__ import annotations

from dataclasses import replace

from falaj.ports.mirror import Mirror, Tracked

TRACKED = Tracked(
    "run-1",
    "delay",
    {"leaves": 31, "long": "x" * 5000},
    {"roc_auc": 0.75},
    {"auc": (0.5, 0.6, 0.7)},
    {"plot.png": b"\x89PNG"},
    {"a": "b"},
)


class MirrorContract:
    __test__ = False

    def mirror(self) -> Mirror:
        raise NotImplementedError

    def test_the_same_run_again_is_the_same_run_over_there(self) -> None:
        mirror = self.mirror()
        first = mirror.record_run(TRACKED)
        assert first
        assert mirror.record_run(replace(TRACKED, tags={"a": "c"})) == first

    def test_a_version_can_be_told_twice_and_then_be_pointed_at(self) -> None:
        mirror = self.mirror()
        mirror.record_run(TRACKED)
        for _ in range(2):
            mirror.record_model("delay", "7", run="run-1", source="sha256:00", tags={"falaj.ref": "model/delay@7"})
        mirror.record_alias("delay", "champion", "7")
        mirror.record_alias("delay", "champion", "7")

    def test_a_version_without_a_run_over_there_is_taken(self) -> None:
        self.mirror().record_model("delay", "1", run="never-seen", source="sha256:00", tags={})
