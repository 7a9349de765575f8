"""Receipts of real stores: anybody can check them, nobody can change them, and making one reads one segment."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditkit import note, tree
from auditkit.cosignature import CosignerKey, cosign_text
from auditkit.errors import StoreDamaged, StoreIncomplete, UsageError
from auditkit.event import encode_body, join_line, name_id
from auditkit.proof import (
    MAX_PROOF_BYTES,
    TlogProof,
    format_consistency_proof,
    format_proof,
    parse_consistency_proof,
    parse_proof,
    verify_consistency_proof,
)
from auditkit.receipts import make_consistency_proof, make_receipt, read_history, verify_receipt
from auditkit.retention import retire_days
from auditkit.store import ledger
from auditkit.store.nodes import TreeNodes
from tests.integrity.stores import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    Chain,
    Sample,
    Site,
    add_events,
    hash_leaf,
    list_rows,
    make_sample,
    make_site,
)

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The sample store, to be read only."""
    return make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def site(sample: Sample, tmp_path: Path) -> Site:
    """A copy of the sample store."""
    return sample.copy(tmp_path / "site")


def read_public_key(site: Site) -> str:
    return str(json.loads((site.path / "store.json").read_bytes())["public_key"])


def read_commits(site: Site) -> list[ledger.Commit]:
    return list(ledger.read_commits(site.layout))


def read_notes(site: Site) -> list[str]:
    """Read the signed checkpoints as a person would copy them: what stands behind a commit's line."""
    return [path.read_bytes().partition(b"\n")[2].decode() for path in site.commits()]


def list_leaves(site: Site, chains: list[Chain]) -> list[bytes]:
    """Hash all leaves of a store's tree, by the specification alone: events as they were written, and commits."""
    lines = {(chain.writer, json.loads(line)["seq"]): line for chain in chains for line in chain.lines}
    leaves = []
    for path in site.commits():
        line = path.read_bytes().partition(b"\n")[0]
        for entry in json.loads(line)["add"]:
            leaves += [hash_leaf(lines[row]) for row in list_rows(site, site.path / entry["path"])]
        leaves.append(hash_leaf(line))
    return leaves


def make(site: Site, event_id: str) -> str:
    return make_receipt(site.layout, site.store_id, event_id).text


# -- a verifier from the page alone ------------------------------------------------------------------------------------


def check_independently(text: str, verifier_key: str) -> dict[str, object]:
    """Check a receipt as docs/receipts.md says, with nothing of auditkit.

    Raises:
        ValueError: If it isn't valid.
    """
    name, key_hash, encoded = verifier_key.split("+", 2)
    raw = base64.b64decode(encoded)
    if raw[:1] != b"\1" or sha256(name.encode() + b"\n" + raw).digest()[:4].hex() != key_hash:
        raise ValueError("the key")
    head, _, checkpoint = text.partition("\n\n")
    first, extra, index, *path = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not extra.startswith("extra ") or not index.startswith("index "):
        raise ValueError("the head")
    line = base64.b64decode(extra.removeprefix("extra "), validate=True)
    signed, _, signatures = checkpoint.rpartition("\n\n")
    signed += "\n"
    origin, size, root = signed.split("\n")[:3]
    if origin != name:
        raise ValueError("the origin")
    mine = []
    for each in signatures.splitlines():
        _, signer, blob = each.split(" ")
        if signer == name and base64.b64decode(blob)[:4].hex() == key_hash:
            mine.append(base64.b64decode(blob)[4:])
    if not mine:
        raise ValueError("no signature")
    for signature in mine:
        try:
            Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, signed.encode())
        except InvalidSignature:
            raise ValueError("the signature") from None
    fields = json.loads(line)
    if json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() != line:
        raise ValueError("the line")
    if list(fields) != [*(f[0] for f in BODY), "mac"] or f"auditkit/{fields['store']}" != origin:
        raise ValueError("the event")
    node = sha256(b"\0" + line).digest()
    a, b = int(index.removeprefix("index ")), int(size) - 1
    if not 0 <= a <= b:
        raise ValueError("the index")
    for hashed in path:
        p = base64.b64decode(hashed)
        if b == 0:
            raise ValueError("too long")
        if a % 2 or a == b:
            node = sha256(b"\1" + p + node).digest()
            while a % 2 == 0 and a > 0:
                a, b = a // 2, b // 2
        else:
            node = sha256(b"\1" + node + p).digest()
        a, b = a // 2, b // 2
    if b or base64.b64encode(node).decode() != root:
        raise ValueError("the path")
    return dict(fields)


BODY = re.findall(r"^\| `(\w+)` \| (integer|string) \| (?:no|yes) \|", (DOCS / "format.md").read_text(), re.M)
EXAMPLE = {
    label: text
    for page in ("format.md", "receipts.md")
    for label, text in re.findall(r"```\w+ example=(\S+)\n(.*?)\n```", (DOCS / page).read_text(), re.DOTALL)
}


def read_values(label: str) -> dict[str, str]:
    return dict(re.split(r" += ", line, maxsplit=1) for line in EXAMPLE[label].splitlines())


def test_the_pages_receipt_follows_from_the_format_pages_store() -> None:
    """Every value of the worked example comes out of the store of docs/format.md by hashlib alone."""
    line = (EXAMPLE["body.2"][:-1] + ',"mac":"' + read_values("event.2")["mac.2"] + '"}').encode()
    one, two = read_values("tree.1"), read_values("tree.2")
    leaf = sha256(b"\0" + line).digest()
    path = [one["commit leaf"], one["node(0,1)"], two["node(4,5,6)"]]
    first, second, third = map(bytes.fromhex, path)
    right = sha256(b"\1" + leaf + first).digest()
    left = sha256(b"\1" + second + right).digest()
    root = sha256(b"\1" + left + third).digest()
    assert read_values("path") == {
        "leaf": leaf.hex(),
        "first hash": first.hex(),
        "node(2,3)": right.hex(),
        "second hash": second.hex(),
        "node(0,1,2,3)": left.hex(),
        "third hash": third.hex(),
        "root": root.hex(),
    }
    assert (right.hex(), left.hex(), root.hex()) == (one["node(2,3)"], one["root"], two["root"])
    encoded = [base64.b64encode(each).decode() for each in (line, first, second, third)]
    head = ["c2sp.org/tlog-proof@v1", f"extra {encoded[0]}", "index 2", *encoded[1:]]
    assert EXAMPLE["receipt"] == "\n".join([*head, "", EXAMPLE["note.2"]])
    assert EXAMPLE["public-key"] == json.loads(EXAMPLE["commit.1"])["keys"]["new"]
    assert EXAMPLE["consistency"] == "\n".join(["old 4", encoded[3], "", EXAMPLE["note.2"]])
    assert sha256(b"\1" + bytes.fromhex(one["root"]) + third).hexdigest() == two["root"]
    page = (DOCS / "receipts.md").read_text()
    assert f"The {len(encoded[0])} characters behind `extra` are base64 of the {len(line)} bytes" in page


def test_the_pages_proofs_are_valid_to_both_verifiers() -> None:
    """The worked example is accepted by auditkit, and by a verifier written from the page."""
    receipt, key = EXAMPLE["receipt"] + "\n", EXAMPLE["public-key"]
    check = verify_receipt(receipt, key)
    assert check.ok, check
    assert check.event_id == "20261123-onewriteronedate:2"
    assert check_independently(receipt, key)["message"] == 'no "200" from crm/1\twithin 1 s\x1f'
    proof = parse_consistency_proof(EXAMPLE["consistency"] + "\n")
    assert verify_consistency_proof(proof, EXAMPLE["note.1"] + "\n", key)


def test_the_pages_links_lead_somewhere() -> None:
    """Each link of the page names a page and a heading that are there."""
    page = (DOCS / "receipts.md").read_text()
    links = re.findall(r"\]\(([\w.-]*)#?([\w.-]*)\)", page)
    assert len(links) > 10
    for target, anchor in links:
        text = (DOCS / target).read_text() if target else page
        headings = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
        assert not anchor or anchor in headings, (target, anchor)


# -- receipts of every event -------------------------------------------------------------------------------------------


def test_every_sealed_event_has_a_receipt_that_both_verifiers_accept(sample: Sample) -> None:
    """Over several days, writers and commits, each event's receipt shows exactly what was recorded."""
    key, count = read_public_key(sample.site), 0
    for path in sample.site.segments():
        for writer, seq in list_rows(sample.site, path)[::3]:
            receipt = make_receipt(sample.site.layout, sample.site.store_id, name_id(writer, seq))
            check = verify_receipt(receipt.text, key)
            assert check.ok, check
            assert check.event == receipt.event
            assert (check.event_id, check.index, check.size) == (receipt.event_id, receipt.index, receipt.size)
            assert (check.store, check.key, check.signed) == (sample.site.store_id, key, True)
            (chain,) = (chain for chain in sample.chains.values() if chain.writer == writer)
            line = next(line for line in chain.lines if json.loads(line)["seq"] == seq)
            assert parse_proof(receipt.text).extra == line
            assert check_independently(receipt.text, key)["seq"] == seq
            count += 1
    assert count > 40


shapes = st.lists(
    st.lists(
        st.tuples(st.sampled_from([MONDAY, TUESDAY, WEDNESDAY]), st.sampled_from("abc"), st.integers(1, 9)),
        min_size=1,
        max_size=4,
        unique_by=lambda each: each[:2],
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shapes, st.data())
def test_any_event_of_any_store_is_proved(shape: list[list[tuple[object, str, int]]], data: st.DataObject) -> None:
    """However events lie in segments, days and commits: receipts verify, and growth is proved as from all leaves."""
    with TemporaryDirectory() as folder:
        site = make_site(Path(folder))
        chains: dict[tuple[object, str], Chain] = {}
        for commit in shape:
            for day, name, count in commit:
                if (day, name) in chains:
                    chains[day, name].rotate()
                else:
                    chains[day, name] = Chain(site, day, name)  # type: ignore[arg-type]
                add_events(chains[day, name], count)
            site.seal()
        leaves = list_leaves(site, list(chains.values()))
        chain = data.draw(st.sampled_from(list(chains.values())))
        seq = data.draw(st.integers(0, chain.seq - 1))
        receipt = make_receipt(site.layout, site.store_id, name_id(chain.writer, seq))
        assert verify_receipt(receipt.text, read_public_key(site))
        proof = parse_proof(receipt.text)
        assert leaves[receipt.index] == hash_leaf(chain.lines[seq])
        assert list(proof.hashes) == tree.prove_inclusion(receipt.index, len(leaves), tree.serve_nodes(leaves))
        check_growth(site, leaves)


def check_growth(site: Site, leaves: list[bytes]) -> None:
    """Compare what the commits' nodes give with the full list of leaves, for every pair of checkpoints."""
    state, nodes, keys = read_history(site.layout, site.store_id)
    assert keys == (read_public_key(site),)
    get_node = tree.serve_nodes(leaves)
    assert (nodes.size, nodes.root) == (len(leaves), state.root) == (state.size, nodes.find_root(nodes.size))
    for new in nodes.sizes:
        assert nodes.find_root(new) == tree.compute_root(new, tree.build_nodes(0, leaves[:new]))
        for old in (size for size in nodes.sizes if size <= new):
            expected = tree.prove_consistency(old, new, get_node) if old else []
            assert nodes.prove_consistency(old, new) == expected
    for size in set(range(len(leaves) + 2)) - set(nodes.sizes):
        assert nodes.find_root(size) is None


# -- nobody can change one ---------------------------------------------------------------------------------------------


def test_no_byte_of_a_receipt_can_be_changed(sample: Sample) -> None:
    """Each byte changed, left out or doubled makes a receipt that isn't valid, and raises nothing."""
    key = read_public_key(sample.site)
    raw = make(sample.site, f"{sample.chains['ana'].writer}:5").encode()
    assert verify_receipt(raw, key)
    for place in range(len(raw)):
        for changed in (bytes([raw[place] ^ 1]), bytes([raw[place] ^ 0x20]), b"", raw[place : place + 1] * 2):
            check = verify_receipt(raw[:place] + changed + raw[place + 1 :], key)
            assert not check.ok, (place, changed)
            assert check.problems
            assert all(problem.isprintable() for problem in check.problems)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_hostile_data_is_answered_and_raises_nothing(data: bytes | str) -> None:
    """Whatever is handed in as a receipt, the answer is that it isn't one."""
    check = verify_receipt(data, EXAMPLE["public-key"])
    assert not check.ok
    assert check.event is None
    assert str(check).startswith("not a valid receipt\n")


@given(st.binary(min_size=1, max_size=60) | st.text(min_size=1, max_size=60).map(str.encode))
def test_hostile_extra_data_is_answered(extra: bytes) -> None:
    """A well-formed proof of what is no event isn't a receipt, even where tree and signature are right."""
    origin, seed = "auditkit/sitesitesitesite", bytes(32)
    checkpoint = note.format_checkpoint(note.Checkpoint(origin, 1, tree.hash_leaf(extra)))
    text = format_proof(TlogProof(0, (), note.sign_note(checkpoint, origin, seed), extra))
    check = verify_receipt(text, note.format_verifier_key(origin, note.derive_public_key(seed)))
    assert not check.ok
    (problem,) = check.problems
    assert problem.startswith("extra data: ")
    assert problem.isprintable()


def prove_alone(line: bytes, origin: str = "auditkit/sitesitesitesite", seed: bytes = bytes(32)) -> tuple[str, str]:
    """Make a receipt of a tree of one leaf, signed by whoever has the seed, and the key that fits it."""
    text = note.format_checkpoint(note.Checkpoint(origin, 1, hash_leaf(line)))
    proof = TlogProof(0, (), note.sign_note(text, origin, seed), line)
    return format_proof(proof), note.format_verifier_key(origin, note.derive_public_key(seed))


def test_a_commit_is_no_event(sample: Sample) -> None:
    """A commit is a leaf of the same tree, and its proof isn't taken for an event's."""
    line = sample.site.commits()[0].read_bytes().partition(b"\n")[0]
    check = verify_receipt(*prove_alone(line))
    assert check.event is None
    assert "extra data: expected an event with the keys" in check.problems[0]


def test_an_event_of_another_store_is_refused(sample: Sample) -> None:
    """A store can't show an event as another's: the event names its store, and the tree does."""
    line = sample.chains["ana"].lines[3]
    check = verify_receipt(*prove_alone(line, "other/log"))
    assert check.problems == (
        "expected the event of store 'sitesitesitesite' in the tree of that store, found it in the tree 'other/log'",
    )


def test_a_receipt_of_an_event_that_prints_otherwise_is_refused(sample: Sample) -> None:
    """The same values in another form aren't the bytes that were recorded."""
    line = sample.chains["ana"].lines[3].replace(b'"seq":3', b'"seq": 3')
    assert "canonical form" in str(verify_receipt(*prove_alone(line)))


def test_an_event_of_a_newer_format_is_told_as_such(sample: Sample) -> None:
    """It isn't accused: it can't be judged here."""
    line = sample.chains["ana"].lines[3].replace(b'{"v":1', b'{"v":2')
    assert "use a newer auditkit" in str(verify_receipt(*prove_alone(line)))


def test_an_unsigned_event_is_proved_and_said_to_be_unsigned(sample: Sample) -> None:
    """The tree vouches for it; that its writer didn't sign is part of the answer."""
    fields = {name: value for name, value in json.loads(sample.chains["ana"].lines[3]).items() if name != "mac"}
    check = verify_receipt(*prove_alone(join_line(encode_body(fields), None)))
    assert check.ok
    assert not check.signed


def test_a_proof_without_the_event_cannot_be_checked(sample: Sample) -> None:
    """A bare tlog-proof proves a leaf, and nobody can say of what."""
    bare = replace(parse_proof(make(sample.site, f"{sample.chains['ana'].writer}:5")), extra=None)
    check = verify_receipt(format_proof(bare), read_public_key(sample.site))
    assert check.problems == (
        "expected the event's line as extra data, found none: what the receipt is of can't be told",
    )


def test_a_key_from_elsewhere_decides(sample: Sample) -> None:
    """Without a key there is no answer. With a wrong one the answer is no, with the right one among several yes."""
    text, key = make(sample.site, f"{sample.chains['ana'].writer}:5"), read_public_key(sample.site)
    other = note.format_verifier_key("auditkit/sitesitesitesite", note.derive_public_key(bytes(32)))
    nothings: list[str | list[str]] = ["", []]
    for nothing in nothings:
        with pytest.raises(UsageError, match="verifier key"):
            verify_receipt(text, nothing)
    check = verify_receipt(text, other)
    assert (check.ok, bool(check), check.key) == (False, False, None)
    assert check.problems[0].startswith("expected a signature by key ")
    assert verify_receipt(text, [other, key]).key == key


def test_a_receipt_is_read_from_its_file(sample: Sample, tmp_path: Path) -> None:
    """A path is a file, and text is a receipt: neither is guessed from the other."""
    receipt = make_receipt(sample.site.layout, sample.site.store_id, f"{sample.chains['ana'].writer}:5")
    key = read_public_key(sample.site)
    path = receipt.save(tmp_path)
    assert path.name == f"{sample.chains['ana'].writer}-5.tlog-proof"
    assert path.read_text() == receipt.text
    assert verify_receipt(path, key)
    assert not verify_receipt(str(path), key)
    path.write_bytes(bytes(MAX_PROOF_BYTES + 1000))
    assert "expected at most" in verify_receipt(path, key).problems[0]
    with pytest.raises(FileNotFoundError):
        verify_receipt(tmp_path / "nothing", key)


def test_a_receipt_is_never_written_into_a_store_or_over_a_key(site: Site) -> None:
    """A receipt in the store would be taken for a part of it, and one over the key would lose it."""
    receipt = make_receipt(site.layout, site.store_id, list_ids(site)[0])
    with pytest.raises(UsageError, match="outside the store"):
        receipt.save(site.path / "events" / "r.tlog-proof")
    with pytest.raises(UsageError, match="the key file"):
        receipt.save(site.key_file)


def list_ids(site: Site) -> list[str]:
    return [name_id(*row) for path in site.segments() for row in list_rows(site, path)]


# -- cosignatures ------------------------------------------------------------------------------------------------------


def test_a_receipt_may_lead_to_a_cosigned_checkpoint(sample: Sample) -> None:
    """A witness's line over the same text is kept, and its time is told to whoever asks for it."""
    event_id, witness = (
        f"{sample.chains['ana'].writer}:5",
        CosignerKey("witness.example", note.derive_public_key(bytes(32))),
    )
    signed = note.parse_note(read_notes(sample.site)[-1])
    cosignature = cosign_text(signed.text, witness.name, bytes(32), 1_767_139_200)
    cosigned = note.format_note(signed.text, [*signed.signatures, cosignature])
    receipt = make_receipt(sample.site.layout, sample.site.store_id, event_id, checkpoint=cosigned)
    key = read_public_key(sample.site)
    check = verify_receipt(receipt.text, key, cosigners=str(witness))
    assert check.ok, check
    assert check.cosigned == {"witness.example": 1_767_139_200}
    assert verify_receipt(receipt.text, key).cosigned == {}
    stranger = CosignerKey("other.example", note.derive_public_key(bytes([1] * 32)))
    check, name = verify_receipt(receipt.text, key, cosigners=[witness, stranger]), stranger.key_id.hex()
    assert check.cosigned == {"witness.example": 1_767_139_200}
    assert check.problems == (
        f"expected a cosignature of the checkpoint by other.example, key {name}, found none that holds",
    )
    with pytest.raises(UsageError, match="key of a log, not of a witness"):
        verify_receipt(receipt.text, key, cosigners=[key])


def test_a_receipt_leads_to_a_checkpoint_of_its_store_only(sample: Sample) -> None:
    """A note of another store, of another root, or of a smaller tree is no place to lead to."""
    site, event_id = sample.site, f"{sample.chains['cy'].writer}:5"
    seed, origin = bytes(32), "auditkit/sitesitesitesite"

    def sign(name: str, size: int, root: bytes = bytes(32)) -> str:
        return note.sign_note(note.format_checkpoint(note.Checkpoint(name, size, root)), name, seed)

    size = note.parse_checkpoint(note.parse_note(read_notes(site)[-1]).text).size
    for checkpoint, message in (
        (sign("auditkit/otherotherotherx", size), "found another store's"),
        (sign(origin, size), "found root"),
        (sign(origin, size - 1), "never had that size"),
        (sign(origin, size + 1), f"found a tree of {size} leaves"),
        (read_notes(site)[0], "expected a checkpoint that covers"),
        (note.sign_note(note.parse_note(read_notes(site)[2]).text, origin, seed), "expected a signature by a key"),
        ("no note", "expected an empty line"),
    ):
        with pytest.raises(UsageError, match=message):
            make_receipt(site.layout, site.store_id, event_id, checkpoint=checkpoint)
    earlier = make_receipt(site.layout, site.store_id, event_id, checkpoint=read_notes(site)[1])
    assert verify_receipt(earlier.text, read_public_key(site))


# -- what time and damage do to it -------------------------------------------------------------------------------------


def test_a_receipt_outlives_what_comes_after_it(site: Site) -> None:
    """A receipt made before later commits stays valid, and one made after them is of the same leaf."""
    event_id, key = list_ids(site)[7], read_public_key(site)
    before = make_receipt(site.layout, site.store_id, event_id)
    chain = Chain(site, WEDNESDAY, "h")
    add_events(chain, 30)
    chain.close()
    site.seal()
    after = make_receipt(site.layout, site.store_id, event_id)
    assert before.text != after.text
    assert (before.index, before.event) == (after.index, after.event)
    assert before.size < after.size
    for text in (before.text, after.text):
        assert verify_receipt(text, key)
    assert verify_receipt(make(site, name_id(chain.writer, 30)), key)


def test_a_receipt_costs_one_segment(site: Site) -> None:
    """All other segments may be damaged or gone, and all journals: the commits know their nodes."""
    chosen, *others = site.segments()
    writer, seq = list_rows(site, chosen)[4]
    before = make(site, name_id(writer, seq))
    for number, path in enumerate(others):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(b"not Parquet")
    for path in site.journals():
        path.unlink()
    assert make(site, name_id(writer, seq)) == before
    assert verify_receipt(before, read_public_key(site))


def test_a_receipt_of_an_event_in_staging(site: Site) -> None:
    """Between a commit and its rename a segment lies in staging, and its events are sealed."""
    chosen = site.segments()[0]
    writer, seq = list_rows(site, chosen)[4]
    site.layout.staging.mkdir(exist_ok=True)
    chosen.rename(site.layout.staging / chosen.name)
    assert verify_receipt(make(site, name_id(writer, seq)), read_public_key(site))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, error, message",
    [
        (damage, StoreDamaged, "expected SHA-256"),
        (Path.unlink, StoreDamaged, "found none"),
        (lambda path: path.parent.rename(path.parents[2] / "away"), StoreIncomplete, "no such partition"),
    ],
)
def test_no_receipt_is_made_from_damage(
    site: Site, harm: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    """A segment that isn't the one the ledger lists gives no receipt, and is told."""
    path = site.segments()[-1]
    writer, seq = list_rows(site, path)[0]
    harm(path)
    with pytest.raises(error, match=message):
        make(site, name_id(writer, seq))


def test_no_receipt_is_made_from_a_damaged_ledger(site: Site) -> None:
    """A ledger with a hole, or with a note that doesn't fit, gives no receipt of any event."""
    event_id, (_, second, third) = list_ids(site)[0], site.commits()
    held = third.read_bytes()
    third.write_bytes(held.partition(b"\n")[0] + b"\n" + second.read_bytes().partition(b"\n")[2])
    with pytest.raises(StoreDamaged, match="the note of commit 3: expected the tree of 148 leaves, found one of 119"):
        make(site, event_id)
    name = "auditkit/sitesitesitesite"
    third.write_bytes(held.partition(b"\n")[0] + b"\n" + note.sign_note(_text_of(held), name, bytes(32)).encode())
    with pytest.raises(StoreDamaged, match="the note of commit 3: expected a signature by a key that the ledger names"):
        make(site, event_id)
    third.write_bytes(held)
    second.unlink()
    with pytest.raises(StoreDamaged, match=r"ledger commit .*00000002.commit"):
        make(site, event_id)


def _text_of(commit: bytes) -> str:
    return note.parse_note(commit.partition(b"\n")[2]).text


# -- events that have no receipt ---------------------------------------------------------------------------------------


def test_an_event_that_is_not_sealed_yet_is_told_as_such(site: Site, sample: Sample) -> None:
    """Who asks too early learns what to do, and has the receipt after it."""
    event_id = name_id(sample.chains["gus"].writer, 4)
    with pytest.raises(UsageError, match=r"in a journal only: it isn't sealed yet.*auditkit seal"):
        make(site, event_id)
    site.seal()
    assert verify_receipt(make(site, event_id), read_public_key(site))


def test_a_store_without_a_commit_has_no_receipts(tmp_path: Path) -> None:
    """Before the first sealing there is nothing to lead to."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    with pytest.raises(UsageError, match="in a journal only"):
        make(site, name_id(chain.writer, 0))
    with pytest.raises(UsageError, match="no such writer, and none of this date, among 0"):
        make(site, f"20200302-{'z' * 16}:0")


@pytest.mark.parametrize(
    "event_id, message",
    [
        ("", "expected the id of an event, <writer>:<seq>"),
        ("L-1", "expected the id of an event, <writer>:<seq>"),
        (7, "found 'int'"),
        ("20200302-aaaaaaaaaaaaaaaa", "<writer>:<seq>"),
        ("20200302-aaaaaaaaaaaaaaaa:", "<writer>:<seq>"),
        ("20200302-aaaaaaaaaaaaaaaa:07", "<writer>:<seq>"),
        ("20200302-aaaaaaaaaaaaaaaa:-1", "<writer>:<seq>"),
        ("20200302-aaaaaaaaaaaaaaaa:٧", "<writer>:<seq>"),
        ("20201302-aaaaaaaaaaaaaaaa:7", "<writer>:<seq>"),
        ("20200302-aaaaaaaaaaaaaaaa:7\n", "<writer>:<seq>"),
        ("\x1b[31m" * 1000, "found '.x1b"),
        ("20200302-aaaaaaaaaaaaaaaa:9999", "the events up to 20200302-aaaaaaaaaaaaaaaa:61 are sealed"),
        ("20200302-zzzzzzzzzzzzzzzz:0", "no such writer; of this date there are 20200302-aaaaaaaaaaaaaaaa, 2020"),
        ("20210302-zzzzzzzzzzzzzzzz:0", "no such writer, and none of this date, among 5"),
        ("20200302-bbbbbbbbbbbbbbbb:15", "found that 20200302-bbbbbbbbbbbbbbbb:13 holds its place: a gap event"),
    ],
)
def test_an_id_that_is_none_is_answered_with_what_there_is(sample: Sample, event_id: str, message: str) -> None:
    """A mistyped id is told from an unknown one, and both say what would be right."""
    with pytest.raises(UsageError, match=message) as caught:
        make(sample.site, event_id)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_gap_at_a_runs_end_is_told_from_the_ledger(tmp_path: Path) -> None:
    """Events that were dropped last before a sealing have no receipt; the gap event that stands for them has."""
    site = make_site(tmp_path)
    chain = Chain(site, MONDAY)
    add_events(chain, 3)
    gap = chain.add_gap(3)
    site.seal()
    for seq in (gap + 1, gap + 2):
        with pytest.raises(UsageError, match=f"{name_id(chain.writer, gap)} holds its place"):
            make(site, name_id(chain.writer, seq))
    assert verify_receipt(make(site, name_id(chain.writer, gap)), read_public_key(site))


def test_a_retired_event_keeps_its_old_receipt_and_gets_no_new_one(site: Site) -> None:
    """What was removed with authority is told as such; other events are proved as before, over its nodes."""
    key, old = read_public_key(site), read_notes(site)[0]
    event_id = name_id(*list_rows(site, site.segments()[0])[3])
    before = make(site, event_id)
    assert retire_days(site.layout, site.keys, TUESDAY, "older than 7 years").commit == 4
    with pytest.raises(UsageError, match=r"was retired by commit 4 at .* \(older than 7 years\)"):
        make(site, event_id)
    assert verify_receipt(before, key)
    for path in site.segments():
        assert verify_receipt(make(site, name_id(*list_rows(site, path)[-1])), key)
    proof = make_consistency_proof(site.layout, site.store_id, old)
    assert verify_consistency_proof(proof, old, key)


def test_a_changed_key_signs_new_receipts_and_old_ones_stay_valid(site: Site) -> None:
    """After a key change a receipt leads to the new key's checkpoint; whoever has both keys checks both."""
    event_id, old_note, old_key = list_ids(site)[0], read_notes(site)[-1], read_public_key(site)
    before = make(site, event_id)
    new_key = site.open().rotate_keys()
    site.seal()
    add_events(Chain(site, WEDNESDAY, "h"), 3)
    site.seal()
    after = make(site, event_id)
    assert [bool(verify_receipt(text, old_key)) for text in (before, after)] == [True, False]
    assert [bool(verify_receipt(text, new_key)) for text in (before, after)] == [False, True]
    assert all(verify_receipt(text, [old_key, new_key]) for text in (before, after))
    earlier = make_receipt(site.layout, site.store_id, event_id, checkpoint=old_note)
    assert earlier.text == before
    proof = make_consistency_proof(site.layout, site.store_id, old_note)
    assert verify_consistency_proof(proof, old_note, [old_key, new_key])
    assert not verify_consistency_proof(proof, old_note, new_key)


# -- growth ------------------------------------------------------------------------------------------------------------


def test_growth_is_proved_between_all_checkpoints(sample: Sample) -> None:
    """From each kept checkpoint to each later one there is a proof, which comes back from its file."""
    site, key = sample.site, read_public_key(sample.site)
    for new_place, new in enumerate(read_notes(site)):
        for old in read_notes(site)[: new_place + 1]:
            made = make_consistency_proof(site.layout, site.store_id, note.parse_note(old), new=note.parse_note(new))
            assert made.checkpoint == new
            proof = parse_consistency_proof(format_consistency_proof(made))
            assert verify_consistency_proof(proof, old, key)
            assert not verify_consistency_proof(
                proof, old, note.format_verifier_key(f"auditkit/{site.store_id}", bytes(32))
            )
    newest = make_consistency_proof(site.layout, site.store_id, read_notes(site)[0])
    assert newest.checkpoint == read_notes(site)[-1]


def test_growth_agrees_with_all_leaves(sample: Sample) -> None:
    """The nodes that the commits list give the proofs that hashing every event would give."""
    check_growth(sample.site, list_leaves(sample.site, list(sample.chains.values())))


def test_growth_needs_no_event(site: Site) -> None:
    """With all segments and journals gone, the commits alone prove that the tree grew."""
    for path in (*site.segments(), *site.journals()):
        path.unlink()
    old = read_notes(site)[0]
    proof = make_consistency_proof(site.layout, site.store_id, old)
    assert verify_consistency_proof(proof, old, read_public_key(site))


def test_a_rolled_back_store_has_no_proof(site: Site, tmp_path: Path) -> None:
    """A store that was cut is told, and so is one that went on otherwise behind the cut."""
    kept = read_notes(site)[-1]
    site.commits()[-1].unlink()
    with pytest.raises(
        StoreDamaged, match=r"older checkpoint: .* found a tree of 119 leaves: the newest commits are gone"
    ):
        make_consistency_proof(site.layout, site.store_id, kept)
    chain = Chain(site, TUESDAY, "x")
    add_events(chain, 60)
    site.seal()
    with pytest.raises(StoreDamaged, match=r"older checkpoint: .* was rolled back and went on otherwise"):
        make_consistency_proof(site.layout, site.store_id, kept)
    same_size = note.parse_checkpoint(note.parse_note(read_notes(site)[-1]).text)
    text = note.format_checkpoint(replace(same_size, root=bytes(32)))
    with pytest.raises(StoreDamaged, match=r"found root .* at that size: the store was rolled back"):
        make_consistency_proof(site.layout, site.store_id, note.sign_note(text, f"auditkit/{site.store_id}", bytes(32)))


def test_another_stores_checkpoint_has_no_proof(site: Site, tmp_path: Path) -> None:
    """A checkpoint of another store is told as such."""
    other = make_site(tmp_path / "other", "otherotherotherx")
    add_events(Chain(other, MONDAY), 3)
    other.seal()
    with pytest.raises(StoreDamaged, match="found another store's, of 'auditkit/otherotherotherx'"):
        make_consistency_proof(site.layout, site.store_id, read_notes(other)[0])
    with pytest.raises(StoreDamaged, match="older checkpoint: expected an empty line"):
        make_consistency_proof(site.layout, site.store_id, "no note")


def test_time_is_not_proved_backwards(sample: Sample) -> None:
    """A newer checkpoint can't be the beginning of an older one."""
    first, *_, last = read_notes(sample.site)
    with pytest.raises(UsageError, match="exchange the two"):
        make_consistency_proof(sample.site.layout, sample.site.store_id, last, new=first)


# -- the nodes ---------------------------------------------------------------------------------------------------------


def test_nodes_are_given_for_what_the_commits_list(sample: Sample) -> None:
    """Every complete subtree is either right or refused as lying within a segment."""
    leaves = list_leaves(sample.site, list(sample.chains.values()))
    nodes = TreeNodes()
    for commit in read_commits(sample.site):
        nodes.add(commit)
    ranges = [each for commit in read_commits(sample.site) for entry in commit.add for each in entry.leaves]
    listed = {part for each in ranges for part in tree.split_range(each.first, each.count)}
    for start, size in _list_subtrees(len(leaves)):
        inside = any(each.first <= start and start + size <= each.first + each.count for each in ranges)
        if inside and (start, size) not in listed:
            with pytest.raises(UsageError, match="within a segment"):
                nodes.get_node(start, size)
        else:
            assert nodes.get_node(start, size) == tree.build_nodes(start, leaves[start : start + size])[0]
    for start, size in ((0, 0), (-1, 1), (1, 2), (0, 3), (0, 256), (2**70, 1), (0, 2**70)):
        with pytest.raises(UsageError):
            nodes.get_node(start, size)


def _list_subtrees(count: int) -> Iterator[tuple[int, int]]:
    size = 1
    while size <= count:
        yield from ((start, size) for start in range(0, count - size + 1, size))
        size *= 2


def test_nodes_take_commits_in_their_order_only(sample: Sample) -> None:
    """A commit that is left out, repeated, or lists other leaves is refused, and changes nothing."""
    first, second, third = read_commits(sample.site)
    nodes = TreeNodes()
    assert (nodes.size, nodes.sizes, nodes.root, nodes.find_root(0)) == (0, (0,), tree.EMPTY_ROOT, tree.EMPTY_ROOT)
    nodes.add(first)
    (entry, *rest) = second.add
    (leaves,) = entry.leaves
    moved = replace(entry, leaves=(replace(leaves, first=leaves.first + 1),))
    short = replace(entry, leaves=(replace(leaves, nodes=leaves.nodes[1:]),))
    for wrong in (first, third, replace(second, add=(moved, *rest)), replace(second, add=(short, *rest))):
        with pytest.raises(StoreDamaged, match="expected"):
            nodes.add(wrong)
        assert nodes.sizes == (0, first.first_leaf + first.events + 1)
    nodes.add(second)
    nodes.add(third)
    assert nodes.size == third.first_leaf + third.events + 1
    assert repr(nodes) == f"TreeNodes(commits=3, size={nodes.size})"
    with pytest.raises(UsageError, match=f"found 5: the nearest are 0 and {nodes.sizes[1]}"):
        nodes.prove_consistency(5)
    with pytest.raises(UsageError, match=f"the 3 commits give it {nodes.size} leaves at most"):
        nodes.prove_consistency(0, nodes.size + 1)


# -- how it shows itself -----------------------------------------------------------------------------------------------


def test_receipts_show_themselves_safely(sample: Sample) -> None:
    """What a notebook or a log shows of a receipt is escaped: an event's type can be anything."""
    fields = json.loads(sample.chains["ana"].lines[3])
    fields["type"] = "<script>\x1b[31m\u202e"
    text, key = prove_alone(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())
    check = verify_receipt(text, key)
    assert check.ok, check
    for shown in (str(check), repr(check), check._repr_html_()):
        assert shown.isprintable()
    assert "<script>" not in check._repr_html_()
    bad = verify_receipt(text.replace("index 0", "index 1"), key)
    assert "<li>expected the index of one of 1 leaves, found 1</li>" in bad._repr_html_()

    receipt = make_receipt(sample.site.layout, sample.site.store_id, f"{sample.chains['ana'].writer}:5")
    assert str(receipt) in repr(receipt)
    assert f"leaf {receipt.index} of {receipt.size} in auditkit/{sample.site.store_id}" in str(receipt)
    assert receipt.text.splitlines()[0] in receipt._repr_html_()
