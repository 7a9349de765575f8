"""The documentation: the specification's example recomputed, its tables compared with the code, its claims tried."""

from __future__ import annotations

import array
import base64
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import hashlib
import hmac
import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import types
import uuid
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import auditkit
from auditkit import event, keys, note, tree
from auditkit.conversion import encode_details
from auditkit.logger import AuditLogger
from auditkit.store import keychange, ledger, segment_writer
from auditkit.store.description import StoreDescription
from auditkit.store.keyring import KeyFile
from auditkit.store.layout import Layout, name_segment, read_writer_day
from auditkit.store.ledger import LeafRange, LedgerState, SegmentEntry
from auditkit.store.runs import Head
from auditkit.store.segment_writer import SegmentWriter
from auditkit.trail import AuditTrail
from tests.docs import verifier
from tests.docs.verifier import Fault, Key

ROOT = Path(__file__).parents[2]
FORMAT = (ROOT / "docs" / "format.md").read_text()
RECORDING = (ROOT / "docs" / "recording.md").read_text()
TRUST = (ROOT / "docs" / "trust.md").read_text()

EXAMPLE = dict(re.findall(r"```\w+ example=(\S+)\n(.*?)\n```", FORMAT, re.DOTALL))
SEQS = (0, 1, 2, 3, 5)
SECRET = "a secret of the tests, long enough"


def read_values(label: str) -> dict[str, str]:
    """Read a block of ``name = value`` lines of the example."""
    return dict(re.split(r" += ", line, maxsplit=1) for line in EXAMPLE[label].splitlines())


KEYS = read_values("keys")
STORE, WRITER = KEYS["store"], KEYS["writer"]
SEED = bytes.fromhex(KEYS["sign"])


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def join(body: str, code: str) -> bytes:
    return f'{body[:-1]},"mac":"{code}"}}'.encode()


def example_lines() -> list[bytes]:
    return [join(EXAMPLE[f"body.{seq}"], read_values(f"event.{seq}")[f"mac.{seq}"]) for seq in SEQS]


# -- the worked example, with nothing but hashlib, hmac and Ed25519 ----------------------------------------------------


def test_the_example_follows_from_its_keys_by_hashlib_alone() -> None:
    """Every key, MAC and leaf on the page comes out again from the root key and the bodies, without auditkit."""
    k0 = bytes.fromhex(KEYS["root"])
    k1 = mac(k0, b"auditkit/1 next")
    k2 = mac(k1, b"auditkit/1 next")
    w0 = mac(k0, b"auditkit/1 writer\0" + STORE.encode() + b"\0" + WRITER.encode())
    w1 = mac(w0, b"auditkit/1 epoch")
    assert KEYS["key_id"] == mac(k0, b"auditkit/1 id")[:8].hex()
    assert (KEYS["K[1]"], KEYS["K[2]"]) == (k1.hex(), k2.hex())
    assert (KEYS["W[0,0]"], KEYS["W[0,1]"]) == (w0.hex(), w1.hex())
    for name, key in (("C[1]", k1), ("C[2]", k2)):
        assert KEYS[name] == mac(key, b"auditkit/1 commit\0" + STORE.encode()).hex()
    root = mac(b"correct horse battery staple", b"auditkit/1 root")
    given_secret = {"K[0]": root, "sign": mac(root, b"auditkit/1 sign"), "key_id": mac(root, b"auditkit/1 id")[:8]}
    assert read_values("secret") == {name: value.hex() for name, value in given_secret.items()}

    before = bytes(32)
    for seq in SEQS:
        body = EXAMPLE[f"body.{seq}"]
        fields = json.loads(body)
        assert json.dumps(fields, ensure_ascii=False, separators=(",", ":")) == body
        assert (fields["seq"], fields["store"], fields["writer"]) == (seq, STORE, WRITER)
        code = mac([w0, w1][fields["epoch"]], before + body.encode())
        before = sha(b"\0", join(body, code.hex()))
        assert read_values(f"event.{seq}") == {f"mac.{seq}": code.hex(), f"leaf.{seq}": before.hex()}
    assert example_lines()[1].decode() == EXAMPLE["body.1"][:-1] + EXAMPLE["line-end.1"]
    assert f"The first line is {len(example_lines()[0])} bytes long" in " ".join(FORMAT.split())


def test_the_example_ledger_follows_by_hashlib_alone() -> None:
    """Every node, root, commit and note on the page comes out again; what Parquet's writer chose is given."""
    leaves = [bytes.fromhex(read_values(f"event.{seq}")[f"leaf.{seq}"]) for seq in SEQS]
    lines = [EXAMPLE["commit.1"], EXAMPLE["commit.2"]]
    one, two = (sha(b"\0", line.encode()) for line in lines)
    left, right = sha(b"\1", *leaves[:2]), sha(b"\1", leaves[2], one)
    first = sha(b"\1", left, right)
    pair = sha(b"\1", *leaves[3:])
    rest = sha(b"\1", pair, two)
    second = sha(b"\1", first, rest)
    assert read_values("tree.1") == {
        "node(0,1)": left.hex(),
        "commit leaf": one.hex(),
        "node(2,3)": right.hex(),
        "root": first.hex(),
    }
    assert read_values("tree.2") == {
        "node(4,5)": pair.hex(),
        "commit leaf": two.hex(),
        "node(4,5,6)": rest.hex(),
        "root": second.hex(),
    }

    private = Ed25519PrivateKey.from_private_bytes(SEED)
    public, origin = private.public_key().public_bytes_raw(), f"auditkit/{STORE}"
    key_hash = sha(origin.encode(), b"\n\x01", public)[:4]
    encoded = base64.b64encode(b"\x01" + public).decode()
    verifier_key = f"{origin}+{key_hash.hex()}+{encoded}"
    assert KEYS["public"] == public.hex()
    expected = [
        (
            1,
            sha().hex(),
            0,
            3,
            [left.hex(), leaves[2].hex()],
            [0, 2, bytes(32).hex(), leaves[2].hex(), False],
            4,
            first,
        ),
        (2, first.hex(), 4, 2, [pair.hex()], [3, 5, leaves[2].hex(), leaves[4].hex(), True], 7, second),
    ]
    for line, (n, prev_root, place, rows, nodes, run, size, root) in zip(lines, expected, strict=True):
        fields = json.loads(line)
        code = fields.pop("mac")
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        assert code == mac(bytes.fromhex(KEYS[f"C[{n}]"]), body).hex()
        assert join(body.decode(), code).decode() == line
        assert (fields["n"], fields["key_n"], fields["prev_root"], fields["first_leaf"]) == (n, n, prev_root, place)
        (entry,) = fields["add"]
        assert (entry["rows"], entry["leaves"], entry["runs"]) == (rows, [[place, rows, nodes]], [[WRITER, *run]])
        assert entry["path"] == f"events/date=2026-11-23/{entry['sha256'][:16]}.parquet"
        assert fields["keys"] == ({"old": None, "new": verifier_key, "old_signature": None} if n == 1 else None)
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        signature = base64.b64encode(key_hash + private.sign(text.encode())).decode()
        assert EXAMPLE[f"note.{n}"] == f"{text}\n— {origin} {signature}"


def test_the_example_of_a_key_change_follows_by_hashlib_alone() -> None:
    """A root that begins in the row of numbers, the old key's word for the new one, and both their signatures."""
    values, change = read_values("renewal"), json.loads(EXAMPLE["keys.3"])
    k3 = bytes.fromhex(values["K[3]"])
    assert values["K[4]"] == mac(k3, b"auditkit/1 next").hex()
    assert values["C[3]"] == mac(k3, b"auditkit/1 commit\0" + STORE.encode()).hex()
    assert k3 != mac(bytes.fromhex(KEYS["K[2]"]), b"auditkit/1 next")

    origin, signers = f"auditkit/{STORE}", []
    for seed, said in ((SEED, change["old"]), (bytes.fromhex(values["sign"]), change["new"])):
        private = Ed25519PrivateKey.from_private_bytes(seed)
        encoded = b"\x01" + private.public_key().public_bytes_raw()
        key_hash = sha(origin.encode(), b"\n", encoded)[:4]
        assert said == f"{origin}+{key_hash.hex()}+{base64.b64encode(encoded).decode()}"
        signers.append((private, key_hash))
    assert EXAMPLE["endorsement"].split("\n") == ["auditkit/1 key change", origin, change["old"], change["new"]]
    signature = signers[0][0].sign(f"{EXAMPLE['endorsement']}\n".encode())
    assert change["old_signature"] == base64.b64encode(signature).decode()

    fields = json.loads(EXAMPLE["commit.3"])
    code = fields.pop("mac")
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    assert code == mac(bytes.fromhex(values["C[3]"]), body.encode()).hex()
    assert join(body, code).decode() == EXAMPLE["commit.3"]
    assert (fields["n"], fields["why"], fields["key_n"], fields["first_leaf"]) == (3, "key", 3, 7)
    assert (fields["prev_root"], fields["keys"]) == (read_values("tree.2")["root"], change)
    before = read_values("tree.2")
    leaf = sha(b"\0", EXAMPLE["commit.3"].encode())
    pair = sha(b"\1", bytes.fromhex(before["commit leaf"]), leaf)
    rest = sha(b"\1", bytes.fromhex(before["node(4,5)"]), pair)
    root = sha(b"\1", bytes.fromhex(read_values("tree.1")["root"]), rest)
    nodes = {"commit leaf": leaf, "node(6,7)": pair, "node(4,5,6,7)": rest, "root": root}
    assert read_values("tree.3") == {name: node.hex() for name, node in nodes.items()}
    text = f"{origin}\n8\n{base64.b64encode(root).decode()}\n"
    blobs = [base64.b64encode(key_hash + private.sign(text.encode())).decode() for private, key_hash in signers]
    assert EXAMPLE["note.3"] == "\n".join([text, *(f"— {origin} {blob}" for blob in blobs)])


# -- the same with auditkit's own functions ----------------------------------------------------------------------------


class ExampleKeys(keys.GivenKey):
    """The example's key file as a source of keys."""

    def __init__(self) -> None:
        self._root = bytes.fromhex(KEYS["root"])
        self.key_id = keys.identify_key(self._root)

    @property
    def signing_seed(self) -> bytes:
        return SEED


def test_the_example_is_what_auditkit_makes() -> None:
    """The functions that record, hash and commit give the page's bytes."""
    k0 = bytes.fromhex(KEYS["root"])
    k1 = keys.ratchet_key(k0)
    first = keys.derive_writer_key(k0, STORE, WRITER)
    writer_keys = [first, keys.ratchet_epoch(first)]
    assert [key.hex() for key in writer_keys] == [KEYS["W[0,0]"], KEYS["W[0,1]"]]
    assert keys.derive_commit_key(k1, STORE).hex() == KEYS["C[1]"]
    secret = keys.GivenKey("correct horse battery staple")
    assert read_values("secret")["sign"] == secret.signing_seed.hex()
    assert read_values("secret")["key_id"] == secret.key_id
    before = event.GENESIS
    for seq, line in zip(SEQS, example_lines(), strict=True):
        fields, code = event.parse_line(line)
        body = event.encode_body(fields)
        assert body.decode() == EXAMPLE[f"body.{seq}"]
        assert code == hmac.digest(writer_keys[fields["epoch"]], before + body, "sha256")
        before = event.hash_line(line)
        assert before.hex() == read_values(f"event.{seq}")[f"leaf.{seq}"]

    state = LedgerState(STORE)
    for n in (1, 2):
        stored = f"{EXAMPLE[f'commit.{n}']}\n{EXAMPLE[f'note.{n}']}\n".encode()
        commit = ledger.parse_commit(stored)
        key = keys.ratchet_key(k1) if n == 2 else k1
        assert ledger.check_commit(state, commit) == []
        assert ledger.verify_mac(commit.line, STORE, key)
        assert ledger.format_commit(ledger.make_commit(state, commit, key, [ExampleKeys().signing_seed])) == stored
        state = ledger.apply_commit(state, commit)
        assert state.root.hex() == read_values(f"tree.{n}")["root"]
        assert note.verify_note(note.parse_note(commit.checkpoint), state.verifier_key or "")


def test_the_example_of_a_key_change_is_what_auditkit_makes() -> None:
    """The functions that renew keys give the page's bytes, and the page's verifier takes the new key for them."""
    state = LedgerState(STORE)
    for n in (1, 2):
        stored = f"{EXAMPLE[f'commit.{n}']}\n{EXAMPLE[f'note.{n}']}\n".encode()
        state = ledger.apply_commit(state, ledger.parse_commit(stored))
    values, change = read_values("renewal"), json.loads(EXAMPLE["keys.3"])
    key, seed = bytes.fromhex(values["K[3]"]), bytes.fromhex(values["sign"])
    assert change == keychange.endorse_key(STORE, SEED, keychange.derive_verifier_key(STORE, seed))
    verifier.check_endorsement(STORE, change["old"], change["new"], change["old_signature"])
    stored = f"{EXAMPLE['commit.3']}\n{EXAMPLE['note.3']}\n".encode()
    commit = ledger.parse_commit(stored)
    assert ledger.check_commit(state, commit) == []
    assert ledger.format_commit(ledger.make_commit(state, commit, key, [SEED, seed])) == stored
    assert ledger.apply_commit(state, commit).root.hex() == read_values("tree.3")["root"]
    renewed = Key(bytes.fromhex(KEYS["root"]), seed, renewed=((3, key),))
    assert renewed.derive(2, "auditkit/1 commit", STORE).hex() == KEYS["C[2]"]
    assert renewed.derive(3, "auditkit/1 commit", STORE).hex() == values["C[3]"]


def write_example(folder: Path) -> tuple[Layout, Path]:
    """Make the example on disk: the events of the page, in the segments that this pyarrow writes for them."""
    layout, key_file = Layout(folder / "audit"), folder / "example.key"
    for each in (layout.journal, layout.ledger, layout.events):
        each.mkdir(parents=True)
    state = {"store": STORE, "root": KEYS["root"], "sign": KEYS["sign"], "n": 3}
    current = keys.ratchet_key(bytes.fromhex(KEYS["K[2]"])).hex()
    key_file.write_text(json.dumps({"auditkit": "key", "v": 1, "mode": "ordinary", **state, "current": current}))
    key_file.chmod(0o600)
    lines, ledger_state = example_lines(), LedgerState(STORE)
    heads: dict[str, Head] = {}
    day = read_writer_day(WRITER)
    assert day is not None
    for n, part in ((1, lines[:3]), (2, lines[3:])):
        told = ledger.parse_commit(f"{EXAMPLE[f'commit.{n}']}\n{EXAMPLE[f'note.{n}']}\n".encode())
        writer = SegmentWriter(folder / "segment.parquet", STORE, day, heads)
        assert writer.add(WRITER, part) == []
        sealed = writer.close()
        assert sealed is not None
        nodes = tree.build_nodes(ledger_state.size, sealed.leaves)
        entry = SegmentEntry(
            name_segment(day, sealed.digest),
            sealed.digest,
            sealed.size,
            sealed.rows,
            sealed.time_min,
            sealed.time_max,
            (LeafRange(ledger_state.size, sealed.rows, tuple(nodes)),),
            sealed.runs,
        )
        page = told.add[0]
        assert dataclasses.replace(entry, path=page.path, sha256=page.sha256, bytes=page.bytes) == page
        commit = dataclasses.replace(told, add=(entry,), prev_root=ledger_state.root)
        commit = ledger.make_commit(ledger_state, commit, bytes.fromhex(KEYS[f"K[{n}]"]), [ExampleKeys().signing_seed])
        layout.segment(entry.path).parent.mkdir(exist_ok=True)
        writer.path.rename(layout.segment(entry.path))
        assert ledger.publish_commit(layout, commit)
        ledger_state = ledger.apply_commit(ledger_state, commit)
    description = StoreDescription(STORE, KEYS["key_id"], 1_795_424_400_000_000, ledger_state.verifier_key)
    layout.description.write_bytes(description.to_bytes())
    return layout, key_file


def test_the_example_as_a_store_is_sound(tmp_path: Path) -> None:
    """The page's events in a real store satisfy both verifiers, and read as they were written."""
    layout, key_file = write_example(tmp_path)
    assert verifier.verify_store(layout.root, Key.from_file(key_file)) == 5
    trail = auditkit.open(layout.root, key_file=key_file)
    assert trail.verify().ok
    frame = trail.events()
    assert frame["id"].tolist() == [f"{WRITER}:1", f"{WRITER}:2"]
    assert frame["message"].tolist()[1] == 'no "200" from crm/1\twithin 1 s\x1f'


# -- the page against the code -----------------------------------------------------------------------------------------


def read_table(heading: str, page: str = FORMAT) -> list[list[str]]:
    """Read the first table behind a heading, a list of cells a row, without its head."""
    _, found, rest = page.partition(f"\n{heading}\n")
    assert found, heading
    rows = re.findall(r"^\| (.*) \|$", rest.partition("\n\n|")[2].join(("|", "")).partition("\n\n")[0], re.MULTILINE)
    return [row.split(" | ") for row in rows[1:]]


def test_the_tables_of_the_page_are_the_codes() -> None:
    """Body, segment columns and commits have on the page the keys, kinds and order that the code has."""
    body = [(name.strip("`"), kind, null == "yes") for name, kind, null, _ in read_table("### Body")]
    kinds = {"time": "integer"}
    assert body == [(column.name, kinds.get(column.kind, column.kind), column.nullable) for column in event.BODY]
    columns = re.search(r"So the order is (.*?)\.\s", FORMAT, re.DOTALL)
    assert columns
    assert tuple(re.findall(r"`(\w+)`", columns[1])) == event.SEGMENT_KEYS
    listed = [name for row in read_table("## Commits") for name in re.findall(r"`(\w+)`", row[0])]
    assert tuple(listed) == (*ledger.COMMIT_KEYS, "mac")
    described = [row[0].strip("`") for row in read_table("## store.json")]
    assert described == list(json.loads(StoreDescription("k", "k", 0).to_bytes()))


def test_links_lead_somewhere() -> None:
    """Each link between these pages names a page and a heading that are there."""
    for page in (FORMAT, RECORDING, TRUST):
        for target, anchor in re.findall(r"\]\(([\w.-]*)#?([\w.-]*)\)", page):
            text = page if not target else (ROOT / "docs" / target).read_text()
            headings = [
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
            ]
            assert not anchor or anchor in headings, (target, anchor)


@given(st.text(st.characters(codec="utf-8")), st.integers(0, event.MAX_INTEGER))
def test_another_language_prints_the_same_bytes(text: str, number: int) -> None:
    """Python's own JSON module, told what the page says, prints any body as auditkit does."""
    fields: dict[str, Any] = {"message": text, "duration_us": number, "details": None}
    assert json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() == event.encode_body(fields)


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


def test_the_conversion_table_holds() -> None:
    """Each row of the conversion table is what becomes of that value."""
    inside_itself: dict[str, Any] = {}
    inside_itself["self"] = inside_itself
    names = {
        "array": array, "collections": collections, "fractions": fractions, "ipaddress": ipaddress, "re": re,
        "types": types, "datetime": datetime, "decimal": decimal, "uuid": uuid, "pathlib": pathlib, "numpy": numpy,
        "pandas": pandas, "Point": Point, "Pair": namedtuple("Pair", "x y"), "Colour": Colour,
        "inside_itself": inside_itself,
    }  # fmt: skip
    rows = read_table("## What becomes of details", RECORDING)
    assert len(rows) > 20
    for value, expected in rows:
        expression = re.match(r"`(.*?)`(?: \(.*\))?$", value)
        assert expression, value
        assert encode_details(eval(expression[1], names)) == expected.strip("`"), value


def test_the_examples_of_the_pages_run(tmp_path: Path) -> None:
    """The Python sessions on the pages print what the pages say, in a process of their own."""
    blocks = re.findall(r"```python\n(.*?)```", RECORDING + FORMAT + TRUST, re.DOTALL)
    assert any(">>> audit.log_event" in block for block in blocks)
    (tmp_path / "examples.txt").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-m", "doctest", "examples.txt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- a real store, verified by somebody who has only the page ----------------------------------------------------------

AWKWARD = (
    "",
    "\x00\x1f\x7f",
    'say "no"\\',
    "line\nfeed\ttab\r\b\f",
    "\u2028 \U0001f512 Zoë",
    "</script>",
    "=1+1",
    "x" * 9_000,
)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A store with two sealings behind it and an open journal, and how to open it."""

    path: Path
    key: Key
    opening: dict[str, Any]

    def find(self, pattern: str) -> list[Path]:
        return sorted(self.path.glob(pattern))

    def open(self) -> AuditTrail:
        return auditkit.open(self.path, **self.opening)

    def verify_independently(self, kept: str | None = None) -> int:
        return verifier.verify_store(self.path, self.key, kept)


KILLED = textwrap.dedent(
    """
    import os, sys
    from auditkit.logger import AuditLogger
    audit = AuditLogger(sys.argv[1], enable_rotation=False, **{sys.argv[2]: sys.argv[3]})
    for number in range(20):
        audit.log_event("killed", {"number": number})
    os._exit(9)
    """
)


@pytest.fixture(scope="module", params=["key_file", "secret_key"])
def living(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Record with several writers, two dates, two rotations, a killed process and a journal that stays open."""
    folder = tmp_path_factory.mktemp("recorded")
    path = folder / "audit"
    value = SECRET if request.param == "secret_key" else str(folder / "store.key")
    opening: dict[str, Any] = {request.param: value}
    yesterday = datetime.datetime.now(UTC) - datetime.timedelta(days=1)
    with AuditLogger(path, enable_rotation=False, **opening) as audit:
        with AuditLogger(path, enable_rotation=False, **opening) as second:
            for place, text in enumerate(AWKWARD):
                audit.log_event("awkward", {"text": text, "place": place}, actor=text, message=text)
                second.log_event("old", {"place": place}, time=yesterday, duration=place / 7, outcome="success")
        killed = [sys.executable, "-c", KILLED, str(path), request.param, value]
        assert subprocess.run(killed, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == 9
        audit.rotate()
        for number in range(10):
            audit.log_event("later", {"number": number})
        audit.rotate()
        for number in range(10):
            audit.log_event("open", {"number": number})
        key = Key.from_secret(SECRET.encode()) if request.param == "secret_key" else Key.from_file(Path(value))
        yield Recorded(path, key, opening)


@pytest.fixture
def recorded(living: Recorded, tmp_path: Path) -> Recorded:
    """Give a copy of the store to tamper with; its open journal is that of a process that is gone."""
    shutil.copytree(living.path, tmp_path / "audit")
    return dataclasses.replace(living, path=tmp_path / "audit")


def test_a_real_store_satisfies_the_page(living: Recorded) -> None:
    """Somebody who knows nothing but the page finds every event of a real store, sealed and open, and no fault."""
    events = living.verify_independently()
    trail = living.open()
    assert events == trail.count(include_internal=True)
    assert len(living.find("ledger/*.commit")) == 2
    assert len({path.parent for path in living.find("events/*/*.parquet")}) >= 2
    verification = trail.verify()
    assert verification.ok
    assert living.verify_independently(kept=verification.checkpoint) == events


def change_a_column(recorded: Recorded) -> None:
    path = recorded.find("events/*/*.parquet")[-1]
    table = pq.ParquetFile(path).read()
    actors = ["mallory" if index == 1 else actor for index, actor in enumerate(table.column("actor").to_pylist())]
    table = table.set_column(6, table.schema.field("actor"), [actors])
    with segment_writer.open_writer(path, table.schema) as writer:
        writer.write_table(table)


def change_a_column_and_the_ledger(recorded: Recorded) -> None:
    path = recorded.find("events/*/*.parquet")[-1]
    change_a_column(recorded)
    old, new = path.stem, hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(path.with_name(f"{new[:16]}.parquet"))
    listed, instead = rf'{old}\.parquet","sha256":"[0-9a-f]+"', f'{new[:16]}.parquet","sha256":"{new}"'
    for commit in recorded.find("ledger/*.commit"):
        commit.write_text(re.sub(listed, instead, commit.read_text()))


def remove_a_segment(recorded: Recorded) -> None:
    recorded.find("events/*/*.parquet")[0].unlink()


def plant_a_segment(recorded: Recorded) -> None:
    path = recorded.find("events/*/*.parquet")[0]
    (path.parent / "more.parquet").write_bytes(path.read_bytes())


def remove_the_first_commit(recorded: Recorded) -> None:
    recorded.find("ledger/*.commit")[0].unlink()


def exchange_the_notes(recorded: Recorded) -> None:
    one, two = recorded.find("ledger/*.commit")
    lines = [path.read_bytes().partition(b"\n") for path in (one, two)]
    one.write_bytes(lines[0][0] + b"\n" + lines[1][2])
    two.write_bytes(lines[1][0] + b"\n" + lines[0][2])


def find_open_journal(recorded: Recorded) -> Path:
    return max(recorded.find("journal/*.jsonl"), key=lambda path: path.stat().st_size)


def change_a_line(recorded: Recorded) -> None:
    path = find_open_journal(recorded)
    path.write_bytes(path.read_bytes().replace(b'"type":"open"', b'"type":"shut"', 1))


def drop_a_line(recorded: Recorded) -> None:
    path = find_open_journal(recorded)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


def exchange_two_lines(recorded: Recorded) -> None:
    path = find_open_journal(recorded)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[4], lines[3], *lines[5:]]))


TAMPERINGS: list[Callable[[Recorded], None]] = [
    change_a_column,
    change_a_column_and_the_ledger,
    remove_a_segment,
    plant_a_segment,
    remove_the_first_commit,
    exchange_the_notes,
    change_a_line,
    drop_a_line,
    exchange_two_lines,
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_by_both(recorded: Recorded, tamper: Callable[[Recorded], None]) -> None:
    """What is changed, removed, planted or moved without the key is found from the page alone, and by auditkit."""
    recorded.verify_independently()
    tamper(recorded)
    with pytest.raises(Fault):
        recorded.verify_independently()
    assert recorded.open().verify().exit_code == 1


def forge_the_last_line(recorded: Recorded) -> None:
    path = find_open_journal(recorded)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"type":"open"', b'"type":"fake"')]))


def append_a_line(recorded: Recorded) -> None:
    path = find_open_journal(recorded)
    last = path.read_bytes().splitlines(keepends=True)[-1]
    seq = json.loads(last)["seq"]
    path.write_bytes(path.read_bytes() + last.replace(f'"seq":{seq}'.encode(), f'"seq":{seq + 1}'.encode()))


@pytest.mark.parametrize(
    "tamper",
    [change_a_line, drop_a_line, exchange_two_lines, forge_the_last_line, append_a_line],
    ids=lambda tamper: tamper.__name__,
)
def test_sealing_launders_nothing(recorded: Recorded, tamper: Callable[[Recorded], None]) -> None:
    """What was done to a journal before its sealing is found after it: the sealer judges nothing, the verifier does."""
    tamper(recorded)
    recorded.open().seal()
    with pytest.raises(Fault):
        recorded.verify_independently()
    assert not recorded.open().verify().ok


def test_a_rollback_is_seen_only_with_a_kept_checkpoint(recorded: Recorded) -> None:
    """The newest commit and its segments cut off leave a sound store; the checkpoint that somebody kept tells.

    auditkit keeps one itself, for the user who verifies.
    """
    recorded.open().seal()
    kept = recorded.open().verify().checkpoint
    newest = recorded.find("ledger/*.commit")[-1]
    for entry in json.loads(newest.read_bytes().partition(b"\n")[0])["add"]:
        (recorded.path / entry["path"]).unlink()
    newest.unlink()
    recorded.verify_independently()
    verification = recorded.open().verify(pin=False)
    assert verification.ok
    assert "unanchored" in {finding.kind for finding in verification.notes}
    assert kept is not None
    for verification in (recorded.open().verify(), recorded.open().verify(pin=False, against=kept)):
        assert {finding.kind for finding in verification.findings} == {"rolled_back"}
        assert verification.exit_code == 1
    with pytest.raises(Fault, match="checkpoint"):
        recorded.verify_independently(kept=kept)


def test_a_segment_that_waits_in_staging_counts(recorded: Recorded) -> None:
    """Between a commit and its rename the segment lies in staging, and a verifier finds it there."""
    path = recorded.find("events/*/*.parquet")[0]
    path.rename(recorded.path / "staging" / path.name)
    assert recorded.verify_independently()
    assert recorded.open().verify().ok


def test_a_removed_ledger_is_found_by_both(recorded: Recorded) -> None:
    """The description of a sealed store has a public key, which no store without a commit has."""
    for path in recorded.path.glob("ledger/*.commit"):
        path.unlink()
    with pytest.raises(Fault, match="a public key, and no commit"):
        recorded.verify_independently()
    assert recorded.open().verify().exit_code == 1


def test_the_wrong_key_verifies_nothing(recorded: Recorded) -> None:
    """Another key is told by its name, and by every MAC if its name is forged."""
    other = Key(bytes(32), bytes(32))
    with pytest.raises(Fault, match="key"):
        verifier.verify_store(recorded.path, other)
    file = recorded.path / "store.json"
    fields = {**json.loads(file.read_bytes()), "key_id": other.derive(0, "auditkit/1 id")[:8].hex(), "public_key": None}
    file.write_text(json.dumps(fields))
    for path in sorted(recorded.path.glob("ledger/*.commit"))[1:]:
        path.unlink()  # beside two of them, a missing public key is told first
    with pytest.raises(Fault, match="MAC"):
        verifier.verify_store(recorded.path, other)


def test_the_key_file_is_as_the_page_says(tmp_path: Path) -> None:
    """A key file has the page's keys, counts what is drawn, and ratchets."""
    made = KeyFile.create(tmp_path / "keys" / "a.key", STORE)
    made.draw()
    number, key = made.draw()
    state = json.loads((tmp_path / "keys" / "a.key").read_bytes())
    assert list(state) == ["auditkit", "v", "mode", "store", "root", "sign", "n", "current"]
    assert all(f"`{name}`" in FORMAT for name in state)
    assert (number, state["n"], key) == (1, 2, mac(bytes.fromhex(state["root"]), b"auditkit/1 next"))
    assert state["current"] == mac(key, b"auditkit/1 next").hex()
