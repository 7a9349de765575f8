"""Whatever an attacker without the key changes is found, said to be where it is, and nobody else is accused.

Each run makes a sample of its own, so an example that was kept from an earlier run would be about another one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integrity.stores import Sample, say
from tests.integrity.tampering import (
    Change,
    check_found,
    damage_journal,
    damage_segment,
    tamper_with_journal,
    tamper_with_segment,
)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tampering")


def test_an_untouched_store_verifies(sample: Sample) -> None:
    """Journals that were written by the specification alone verify, sealed and unsealed, with the open ends said."""
    verification = sample.site.verify()
    assert verification.ok, say(verification)
    assert verification.checked_events + verification.journal_events == 190
    assert {note.kind for note in verification.notes} == {"unanchored"}


@settings(max_examples=100, database=None)
@given(data=st.data())
def test_any_changed_row_of_a_segment_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """A changed, dropped, swapped, repeated, forged or copied row is named by writer and sequence number."""
    site = sample.copy(workplace / "site")
    change = tamper_with_segment(site, data.draw(st.sampled_from(site.segments())), data.draw)
    check_found(site, sample.site, [change], site.verify())


@settings(max_examples=40, database=None)
@given(data=st.data())
def test_any_damaged_segment_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """A flipped bit, a cut, an exchanged, an emptied or a deleted segment is found, in the fast mode too."""
    site = sample.copy(workplace / "site")
    change = damage_segment(site, data.draw(st.sampled_from(site.segments())), data.draw)
    check_found(site, sample.site, [change], site.verify())
    check_found(site, sample.site, [change], site.verify(deep=False))


@settings(max_examples=100, database=None)
@given(data=st.data())
def test_any_changed_line_of_a_journal_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """An edited, deleted, repeated, swapped or inserted line is named, before anything is sealed."""
    site = sample.copy(workplace / "site")
    change = tamper_with_journal(sample, site, data.draw(st.sampled_from(site.journals())), data.draw)
    check_found(site, sample.site, [change], site.verify())


@settings(max_examples=100, database=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_journal_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """A single bit anywhere in the unsealed lines is found, and its neighbours aren't accused."""
    site = sample.copy(workplace / "site")
    change = damage_journal(sample, site, data.draw(st.sampled_from(site.journals())), data.draw)
    check_found(site, sample.site, [change], site.verify())


@settings(max_examples=40, database=None)
@given(data=st.data())
def test_of_several_changes_each_is_found(sample: Sample, workplace: Path, data: st.DataObject) -> None:
    """Changes to several files at once are all listed, not just the first."""
    site = sample.copy(workplace / "site")
    files = data.draw(
        st.lists(st.sampled_from([*site.segments(), *site.journals()]), min_size=2, max_size=4, unique=True)
    )
    changes: list[Change] = []
    for path in files:
        if path.suffix == ".parquet":
            changes.append(tamper_with_segment(site, path, data.draw))
        else:
            changes.append(tamper_with_journal(sample, site, path, data.draw))
    check_found(site, sample.site, changes, site.verify())
