"""A forged line that stands alone in a living writer's fresh journal, with nothing genuine beside it to compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integrity.stores import MONDAY, Chain, Site, add_events, list_rows, make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path / "site")


def plant(chain: Chain, mac: str | None, **fields: object) -> None:
    """Append what somebody without the key can make to a writer's journal."""
    body = json.loads(chain.sign()) | fields | {"mac": mac}
    chain.write(json.dumps(body, separators=(",", ":")).encode() + b"\n")


FORGERIES = {
    "an end": {"type": "auditkit.closed", "details": "{}"},
    "a gap": {"type": "auditkit.gap", "details": '{"dropped":1000}'},
    "an event": {"type": "test", "actor": "mallory"},
}


@pytest.mark.parametrize("mac", ["0" * 64, None])
@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_line_alone_in_a_fresh_part_silences_no_writer(site: Site, what: str, mac: str | None) -> None:
    """The writer's sealed first event proves its key, so the forgery is set aside and what follows is sealed."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 9)
    chain.rotate()
    assert site.seal().events == 10
    plant(chain, mac, **FORGERIES[what])
    result = site.seal()
    assert (result.events, result.quarantined) == (0, 1)
    add_events(chain, 20)
    chain.close()
    assert site.seal().events == 21
    stored = {event for path in site.segments() for event in list_rows(site, path)}
    assert stored == {(chain.writer, seq) for seq in range(31)}
    assert "mallory" not in site.open().events()["actor"].tolist()


def test_a_line_that_differs_from_the_sealed_one_of_its_number_is_kept(site: Site) -> None:
    """A journal that was cut back and continued otherwise shows two events of one number: neither is thrown away."""
    chain = Chain(site, MONDAY, "a", owned=True)
    add_events(chain, 4)
    assert site.seal().events == 5
    lines = chain.path.read_bytes().splitlines(keepends=True)
    other = lines[-1].replace(b'"type":"', b'"type":"other.', 1)
    chain.path.write_bytes(b"".join([*lines[:-1], other]))
    result = site.seal()
    assert (result.events, result.quarantined) == (0, 1)
    (kept,) = (site.path / "quarantine").iterdir()
    assert "other." in json.loads(kept.read_bytes())["text"]
