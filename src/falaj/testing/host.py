"""What every host must keep. Subclass it, give it `host`, `wanted` and `keys`, and run it with pytest."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from falaj.core.errors import NotFound
from falaj.ports.host import Host, Wanted


class HostContract:
    """`host()` serves nothing yet and is the same object throughout a test; `wanted(n)` can be served as revision n."""

    __test__ = False

    def host(self) -> Host:
        raise NotImplementedError

    def wanted(self, revision: int) -> Wanted:
        raise NotImplementedError

    def keys(self) -> Mapping[str, Mapping[str, Any]]:
        return {"0" * 64: {"id": "k", "name": "app", "kind": "service", "roles": ["caller"]}}

    def victims(self) -> Sequence[int]:
        """The processes that serve now and may be killed; none where the host has none of its own."""
        return ()

    def test_what_was_never_served_is_not_found(self) -> None:
        with pytest.raises(NotFound):
            self.host().look("nothing")

    def test_what_is_served_is_seen(self) -> None:
        wanted = self.wanted(3)
        self.host().serve(wanted, self.keys())
        seen = self.host().look(wanted.endpoint)
        assert (seen.endpoint, seen.ready, seen.revision) == (wanted.endpoint, True, 3)
        assert seen.pid
        assert seen.url

    def test_the_same_again_changes_nothing(self) -> None:
        wanted = self.wanted(1)
        self.host().serve(wanted, self.keys())
        before = self.host().look(wanted.endpoint)
        self.host().serve(wanted, self.keys())
        after = self.host().look(wanted.endpoint)
        assert (after.pid, after.url, after.revision) == (before.pid, before.url, before.revision)

    def test_a_greater_revision_replaces_a_smaller_one_in_the_same_process(self) -> None:
        self.host().serve(self.wanted(1), self.keys())
        before = self.host().look(self.wanted(1).endpoint)
        self.host().serve(self.wanted(2), self.keys())
        after = self.host().look(self.wanted(2).endpoint)
        assert (after.revision, after.pid) == (2, before.pid)
        # That nobody is to be answered is a wish like any other, and taken over as well.
        self.host().serve(replace(self.wanted(3), killed={"by": "anna", "at": "2013-05-01T00:00:00Z"}), self.keys())
        after = self.host().look(self.wanted(1).endpoint)
        assert (after.ready, after.revision, after.pid) == (True, 3, before.pid)

    def test_a_smaller_revision_changes_nothing(self) -> None:
        self.host().serve(self.wanted(2), self.keys())
        self.host().serve(self.wanted(1), self.keys())
        assert self.host().look(self.wanted(1).endpoint).revision == 2

    def test_what_was_stopped_is_seen_as_not_ready_and_can_be_served_again(self) -> None:
        wanted = self.wanted(1)
        self.host().serve(wanted, self.keys())
        self.host().stop(wanted.endpoint)
        seen = self.host().look(wanted.endpoint)
        assert (seen.ready, seen.pid) == (False, 0)
        self.host().serve(wanted, self.keys())
        assert self.host().look(wanted.endpoint).ready

    def test_whatever_of_it_is_killed_comes_back_at_the_same_address(self) -> None:
        wanted = self.wanted(2)
        self.host().serve(wanted, self.keys())
        before = self.host().look(wanted.endpoint)
        for pid in self.victims():
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + 30
            while pid in self.victims() or not self.host().look(wanted.endpoint).ready:
                assert time.monotonic() < until, f"process {pid} did not come back"
                self.host().supervise()
                time.sleep(0.02)
        after = self.host().look(wanted.endpoint)
        assert (after.ready, after.url, after.revision) == (True, before.url, 2)

    def test_keys_and_whom_not_to_be_asked_about_are_replaced_before_and_after_anything_is_served(self) -> None:
        name = self.wanted(1).endpoint
        self.host().allow({})
        self.host().exclude(name, {"a" * 64})
        with pytest.raises(NotFound):
            self.host().look(name)
        self.host().serve(self.wanted(1), self.keys())
        before = self.host().look(name)
        self.host().allow({})
        self.host().exclude(name, {"b" * 64})
        self.host().exclude(name, ())
        after = self.host().look(name)
        assert (after.ready, after.revision, after.pid) == (True, before.revision, before.pid)
