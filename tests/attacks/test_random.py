"""Random stores under random attacks: verification never raises, and never calls sound what isn't what was recorded.

What it can't find is exactly what docs/trust.md says: the end of a journal that isn't sealed, cut as a crash cuts it.
The user has verified the untouched store before, so what was sealed can't be cut off unseen.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.errors import AuditError, StoreDamaged
from auditkit.integrity import Verification
from tests.attacks.archive import check_told
from tests.attacks.forging import Forger, edit_rows
from tests.integrity.stores import MONDAY, Chain, Site, make_fields, make_site, say

Record = dict[tuple[str, int], tuple[Any, ...]]
"""What readers are given: each event with its columns, by its writer and number."""


@dataclass(frozen=True)
class Random:
    """A random store, what was recorded in it, and how much of each writer was sealed."""

    site: Site
    record: Record
    sealed: dict[str, int]


def read_record(site: Site) -> Record:
    """Read all events, the toolkit's own too."""
    frame = site.open().events(include_internal=True)
    columns = ["time", "type", "actor", "lead_id", "workflow", "outcome", "operation", "error_type", "message"]
    columns += ["traceback", "details", "duration_us"]
    rows = frame[columns].astype(str).itertuples(index=False, name=None)
    record = dict(zip(zip(frame["writer"], frame["seq"], strict=True), rows, strict=True))
    assert len(record) == len(frame), "an event is given twice"
    return record


@pytest.fixture(scope="module")
def make_random(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Random]:
    """Make random stores by their seeds, each once."""
    folder = tmp_path_factory.mktemp("random")

    @cache
    def make(seed: int) -> Random:
        chance = random.Random(seed)
        site = make_site(folder / str(seed), f"{'randomstore'}{chr(97 + seed) * 5}")
        chains = [
            Chain(site, MONDAY + timedelta(days=chance.randrange(3)), "abcdefg"[number])
            for number in range(chance.randint(1, 4))
        ]
        sealed: dict[str, int] = {}
        for _ in range(chance.randint(0, 3)):
            advance(chance, chains)
            site.seal()
            sealed = {chain.writer: chain.seq for chain in chains}
            for chain in chains:
                if not chain.path.exists() and not chain.lines[-1].count(b"auditkit.closed"):
                    chain.rotate()
        if chance.random() < 0.8 or not sealed:
            advance(chance, chains)
        return Random(site, read_record(site), sealed)

    return make


def advance(chance: random.Random, chains: list[Chain]) -> None:
    """Record some more in the chains that go on; close one now and then."""
    for chain in chains:
        if chain.lines and b'"auditkit.closed"' in chain.lines[-1]:
            continue
        for _ in range(chance.randint(1, 6)):
            chain.add(**make_fields(chance.randrange(30)))
        if chance.random() < 0.3:
            chain.ratchet()
        if chance.random() < 0.2:
            chain.add_gap(chance.randint(1, 5))
        if chance.random() < 0.3:
            chain.close()


# -- attacks ----------------------------------------------------------------------------------------------------------


def list_files(site: Site) -> list[Path]:
    folders = (site.layout.ledger, site.layout.events, site.layout.journal)
    return [site.layout.description, *(p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file())]


def flip(chance: random.Random, site: Site) -> None:
    path = chance.choice(list_files(site))
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)


def truncate(chance: random.Random, site: Site) -> None:
    path = chance.choice(list_files(site))
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data) + 1)])


def delete(chance: random.Random, site: Site) -> None:
    chance.choice(list_files(site)[1:] or [site.layout.description]).unlink()


def exchange(chance: random.Random, site: Site) -> None:
    first, second = chance.choice(list_files(site)), chance.choice(list_files(site))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def plant(chance: random.Random, site: Site) -> None:
    source = chance.choice(list_files(site))
    names = {".parquet": f"{chance.getrandbits(64):016x}.parquet", ".commit": f"{chance.randint(1, 9):08}.commit"}
    name = names.get(source.suffix, f"{source.name.partition('.')[0]}.{chance.randint(0, 3):06}.jsonl")
    if source.suffix != ".json" and source.name != name:
        shutil.copyfile(source, source.with_name(name))


def cut(chance: random.Random, site: Site) -> None:
    for path in site.commits()[-chance.randint(1, 3) :]:
        path.unlink()
    if chance.random() < 0.5:
        for path in site.segments()[-chance.randint(1, 3) :]:
            path.unlink()


def rewrite_rows(chance: random.Random, site: Site) -> None:
    segments = site.segments()
    if not segments:
        return flip(chance, site)

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place = chance.randrange(len(rows))
        how = chance.choice(["edit", "delete", "repeat", "swap", "renumber"])
        if how == "edit":
            rows[place] = {**rows[place], "actor": "mallory", "message": None}
        elif how == "renumber":
            rows[place] = {**rows[place], "seq": rows[place]["seq"] + chance.randint(1, 3)}
        elif how == "delete" and len(rows) > 1:
            del rows[place]
        elif how == "repeat":
            rows.insert(chance.randrange(len(rows)), rows[place])
        else:
            rows.reverse()
        return rows

    try:
        edit_rows(chance.choice(segments), change)
        if chance.random() < 0.5:
            Forger().rewrite(site)
    except (AuditError, pa.ArrowException, OSError, KeyError):
        pass  # another attack has left nothing that this one could go on from
    return None


def rewrite_lines(chance: random.Random, site: Site) -> None:
    journals = site.journals()
    if not journals:
        return flip(chance, site)
    path = chance.choice(journals)
    lines = path.read_bytes().splitlines(keepends=True)
    for _ in range(chance.randint(1, 2)):
        if not lines:
            break
        place = chance.randrange(len(lines))
        how = chance.choice(["delete", "delete", "repeat", "swap", "edit", "borrow"])
        if how == "delete":
            del lines[place]
        elif how == "repeat":
            lines.insert(chance.randrange(len(lines) + 1), lines[place])
        elif how == "swap":
            other = chance.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        elif how == "edit":
            lines[place] = lines[place].replace(b'"actor":', b'"actor":"mallory","x":', 1)
        else:
            strange = chance.choice(journals).read_bytes().splitlines(keepends=True)
            lines[place:place] = strange[:1]
    path.write_bytes(b"".join(lines))
    return None


Attack = Callable[[random.Random, Site], None]

ATTACKS: Final[tuple[Attack, ...]] = (
    rewrite_lines, rewrite_rows, cut, delete, exchange, plant, truncate, flip, rewrite_lines,
)  # fmt: skip


def list_excused(made: Random, found: Record) -> set[tuple[str, int]]:
    """List the events whose absence nobody can see: the end of what a writer had not sealed yet."""
    excused = set()
    for writer in {writer for writer, _ in made.record}:
        unsealed = sorted(seq for name, seq in made.record if name == writer and seq >= made.sealed.get(writer, 0))
        for seq in reversed(unsealed):
            if (writer, seq) in found:
                break
            excused.add((writer, seq))
    return excused


def check_verdict(made: Random, site: Site, verification: Verification) -> None:
    """Assert that a sound verdict is true: what readers are given is what was recorded, but for a cut end."""
    if not verification.ok:
        assert verification.exit_code in (1, 3)
        return
    found = read_record(site)
    changed = {event for event in found if made.record.get(event) != found[event]}
    assert not changed, f"sound, and yet changed or added: {sorted(changed)}\n{say(verification)}"
    missing = set(made.record) - set(found)
    assert missing <= list_excused(made, found), f"sound, and yet missing: {sorted(missing)}\n{say(verification)}"
    if missing:
        assert verification.notes, "a cut end is noted at least"


@settings(max_examples=100, database=None)
@given(
    seed=st.integers(0, 11),
    deep=st.booleans(),
    chosen=st.lists(st.sampled_from(ATTACKS), max_size=2),
    luck=st.integers(0),
)
def test_no_random_attack_on_a_random_store_passes_for_sound(
    make_random: Callable[[int], Random],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    deep: bool,
    chosen: list[Attack],
    luck: int,
) -> None:
    """Files, bytes, rows, lines and commits, one attack upon the other; an untouched store is always sound."""
    made = make_random(seed)
    before = made.site.verify(deep=deep, pin=True)
    check_told(before, [])
    assert before.exit_code == 0
    site = made.site.copy(tmp_path_factory.getbasetemp() / "attacked")
    chance = random.Random(luck)
    for attack in chosen:
        attack(chance, site)
    try:
        trail = site.open()
    except (StoreDamaged, AuditError):
        return  # a store that can't be opened isn't called sound
    verification = trail.verify(deep=deep)
    if not chosen:
        check_told(verification, [])
    check_verdict(made, site, verification)
