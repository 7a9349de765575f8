"""Asking for a sealing while somebody else is sealing: it is looked at again, and not for ever."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditkit import spawning
from auditkit.event import DAY_US
from auditkit.spawning import Housekeeper, run_sealer
from auditkit.store import durable
from tests.integrity.stores import MONDAY, Chain, Site, add_events, make_site
from tests.recording.running import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store with the journal of a process that is gone, of a day that is over."""
    site = make_site(tmp_path / "site")
    add_events(Chain(site, MONDAY), 3)
    return site


@pytest.fixture
def count_sealers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the sealers that were started."""
    python, log = tmp_path / "python", tmp_path / "started"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={os.pathsep.join(sys.path)} {sys.executable} "$@"\necho >> {log}\n')
    python.chmod(0o700)
    monkeypatch.setenv("AUDITKIT_PYTHON", str(python))
    return lambda: len(log.read_text()) if log.exists() else 0


@contextmanager
def hold_claim(site: Site) -> Iterator[None]:
    """Hold what a process holds that is sealing in the background."""
    descriptor = os.open(site.layout.journal, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def keep_house(site: Site) -> Iterator[Housekeeper]:
    noon = DAY_US // 2
    housekeeper = Housekeeper(site.layout, site.keys, clock=lambda: noon, retry_seconds=0.1)
    try:
        yield housekeeper
    finally:
        housekeeper.stop()


def test_who_leaves_the_work_to_another_sealer_says_so(site: Site) -> None:
    """Whether the other one has only claimed it or holds the lock already; and the work is done by whoever is alone."""
    with hold_claim(site):
        assert run_sealer(site.layout, site.keys, live=False, wait=False)
    with durable.hold_lock(site.layout.seal_lock):
        assert run_sealer(site.layout, site.keys, live=False, wait=False)
    assert site.journals()
    assert not run_sealer(site.layout, site.keys, live=False, wait=False)
    assert not site.journals()


def test_a_request_that_meets_another_sealer_is_looked_at_again(site: Site) -> None:
    """That sealer may have listed the journals before, and nobody else would come: it is done when it has ended."""
    with keep_house(site) as housekeeper:
        with hold_claim(site):
            housekeeper.request()
            time.sleep(0.3)
            assert site.journals()
        wait_until(lambda: not site.journals())
    assert site.open().count() == 3


def test_a_request_is_not_looked_at_for_ever(
    site: Site, count_sealers: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the lock for good costs a few sealers a request, and the next request finds it free again."""
    monkeypatch.setattr(spawning, "MAX_RETRIES", 2)
    with keep_house(site) as housekeeper:
        with durable.hold_lock(site.layout.seal_lock):
            housekeeper.request()
            wait_until(lambda: count_sealers() == 3)
            time.sleep(1)
            assert count_sealers() == 3
        assert site.journals()
        housekeeper.request()
        wait_until(lambda: not site.journals())
        wait_until(lambda: count_sealers() == 4)


def test_what_the_other_sealer_has_done_is_not_done_again(site: Site, count_sealers: Callable[[], int]) -> None:
    """The second look starts no sealer where nothing needs one."""
    with keep_house(site) as housekeeper:
        with durable.hold_lock(site.layout.seal_lock):
            site.journals()[0].unlink()
            housekeeper.request()
            wait_until(lambda: count_sealers() == 1)
        time.sleep(1)
        assert count_sealers() == 1
