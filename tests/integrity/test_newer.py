"""Commits of a version that this auditkit doesn't know: they can't be judged, and accuse nobody."""

from __future__ import annotations

import hmac
import json
from datetime import date
from pathlib import Path

import pytest

from auditkit.errors import FormatUnknown
from auditkit.keys import derive_commit_key
from tests.integrity.stores import Chain, Site, add_events, make_site, say

MONDAY = date(2020, 3, 2)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A store of two commits."""
    site = make_site(tmp_path / "site")
    for name in "ab":
        chain = Chain(site, MONDAY, name)
        add_events(chain, 3)
        chain.close()
        site.seal()
    return site


def rewrite(site: Site, *, key: bytes | None) -> None:
    """Make the second commit one of version 2, with a MAC of a key or the old one's."""
    path = site.commits()[1]
    line, _, note = path.read_bytes().partition(b"\n")
    fields = json.loads(line)
    mac = fields.pop("mac")
    body = json.dumps({**fields, "v": 2, "more": []}, separators=(",", ":")).encode()
    if key is not None:
        mac = hmac.digest(derive_commit_key(key, site.store_id), body, "sha256").hex()
    path.write_bytes(body[:-1] + f',"mac":"{mac}"}}\n'.encode() + note)


def test_a_newer_commit_whose_mac_holds_is_unverifiable(site: Site) -> None:
    """The store's key made it: exit code 3, with the advice to use a newer auditkit; what it listed isn't accused."""
    number = json.loads(site.commits()[1].read_bytes().partition(b"\n")[0])["key_n"]
    rewrite(site, key=site.keys.find([number])[number])
    verification = site.verify()
    assert verification.exit_code == 3, say(verification)
    told = {(finding.kind, finding.severity) for finding in verification.findings}
    assert told == {("unverifiable", "incomplete")}
    assert "newer auditkit" in verification.findings[0].advice
    with pytest.raises(FormatUnknown, match="use a newer auditkit"):
        site.open().days()


def test_a_commit_that_only_claims_to_be_newer_was_changed(site: Site) -> None:
    """Its MAC is of what it said before: that is tampering, whatever version it claims."""
    rewrite(site, key=None)
    verification = site.verify()
    assert verification.exit_code == 1, say(verification)
    assert ("tampered", "ledger/00000002.commit") in {(f.kind, f.file) for f in verification.findings}


def test_without_the_key_nobody_can_tell_which_it_is(site: Site) -> None:
    """The public key judges notes, and the note of another version may be another."""
    public = site.verify().public_key
    rewrite(site, key=None)
    verification = site.open().verify(public_key=public, pin=False)
    assert verification.exit_code == 3, say(verification)
