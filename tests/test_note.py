"""Signed notes and checkpoints: the bytes of other implementations, and nothing hostile gets through."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.errors import StoreDamaged, UsageError
from auditkit.note import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    MAX_TREE_SIZE,
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    derive_public_key,
    format_checkpoint,
    format_note,
    format_verifier_key,
    parse_checkpoint,
    parse_note,
    parse_verifier_key,
    sign_note,
    sign_text,
    verify_note,
)

Source = TypeVar("Source")
Parsed = TypeVar("Parsed")

# The example of golang.org/x/mod, sumdb/note (example_test.go): key, seed of its secret key, and note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT + "\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# RFC 8032, section 7.1, test 1: the secret key and its public key.
RFC_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

VECTORS = Path(__file__).parents[2] / "shared" / "data" / "vectors"

ROOT = "Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk="
CHECKPOINT = f"auditkit/3f9a1c\n3\n{ROOT}\n"
SIGNED = sign_note(CHECKPOINT, "auditkit/3f9a1c", RFC_SEED)

lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=30)
texts = st.lists(st.one_of(lines, st.just("")), min_size=1, max_size=5).map(
    lambda parts: "".join(part + "\n" for part in parts)
)
names = lines.filter(lambda name: "+" not in name and not any(char.isspace() for char in name))
signatures = st.builds(Signature, names, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80))
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(0, MAX_TREE_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


def read_vectors(name: str) -> dict[str, Any]:
    if not VECTORS.exists():
        pytest.skip("the shared vectors aren't beside this checkout (../shared/data/vectors)")
    vectors: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


def read_or_complain(parse: Callable[[Source], Parsed], source: Source) -> Parsed | None:
    """Parse, or check that what is refused is refused in a message that any terminal can show."""
    try:
        return parse(source)
    except StoreDamaged as error:
        message = str(error)
    assert message.isascii()
    assert message.isprintable()
    return None


def test_note_of_go_verifies() -> None:
    """Go's example note verifies with Go's example key."""
    note = parse_note(GO_NOTE.encode())
    assert note.text == GO_TEXT
    assert verify_note(note, GO_KEY)


def test_signing_gives_the_bytes_that_go_gives() -> None:
    """Ed25519 is deterministic, so signing Go's text with Go's key gives Go's note, byte for byte."""
    assert sign_note(GO_TEXT, "PeterNeumann", GO_SEED) == GO_NOTE
    assert format_verifier_key("PeterNeumann", derive_public_key(GO_SEED)) == GO_KEY


def test_public_key_is_that_of_rfc_8032() -> None:
    """The seed is the secret key of the RFC."""
    assert derive_public_key(RFC_SEED).hex() == RFC_PUBLIC


def test_a_changed_text_does_not_verify() -> None:
    """One changed character in the text and no signature holds."""
    changed = parse_note(GO_NOTE.replace("answer", "Answer"))
    assert not verify_note(changed, GO_KEY)


def test_signatures_of_others_are_ignored() -> None:
    """A note with many signatures verifies for each of its keys and for no other."""
    seeds = [bytes([number]) * 32 for number in range(16)]
    keys = [VerifierKey(f"witness.example/{n}", derive_public_key(seed)) for n, seed in enumerate(seeds)]
    signed = [sign_text(CHECKPOINT, key.name, seed) for key, seed in zip(keys, seeds, strict=True)]
    note = parse_note(format_note(CHECKPOINT, signed[:15]))
    assert all(verify_note(note, key) for key in keys[:15])
    assert not verify_note(note, keys[15])


def test_same_name_and_same_id_are_not_enough() -> None:
    """A key that shares only the name is unknown, and one that claims the id as well fails its signature."""
    name = "auditkit/3f9a1c"
    key = VerifierKey(name, derive_public_key(RFC_SEED))
    other = sign_text(CHECKPOINT, name, bytes(32))
    assert not verify_note(Note(CHECKPOINT, (other,)), key)
    posing = Signature(name, key.key_id, other.signature)
    assert not verify_note(Note(CHECKPOINT, (posing,)), key)
    good = sign_text(CHECKPOINT, name, RFC_SEED)
    assert verify_note(Note(CHECKPOINT, (good, good, other)), key)
    assert not verify_note(Note(CHECKPOINT, (good, posing)), key), "a bad signature of a known key spoils the note"


@pytest.mark.parametrize("length", [1, 63, 65, 72])
def test_signatures_of_another_length_do_not_verify(length: int) -> None:
    """A signature too short or too long for Ed25519 is no signature, and no exception."""
    key = VerifierKey("auditkit/3f9a1c", derive_public_key(RFC_SEED))
    note = Note(CHECKPOINT, (Signature(key.name, key.key_id, bytes(length)),))
    assert not verify_note(parse_note(format_note(note.text, note.signatures)), key)


@given(text=texts, signed=st.lists(signatures, min_size=1, max_size=4))
def test_notes_survive_writing_and_reading(text: str, signed: list[Signature]) -> None:
    """Reading what was written gives it back, from the text and from its bytes, empty lines and all."""
    written = format_note(text, signed)
    assert parse_note(written) == parse_note(written.encode()) == Note(text, tuple(signed))


@given(text=texts, name=names, seed=st.binary(min_size=32, max_size=32))
def test_whatever_is_signed_verifies(text: str, name: str, seed: bytes) -> None:
    """Any text that can be written as a note can be signed, read and verified under any name."""
    key = format_verifier_key(name, derive_public_key(seed))
    assert verify_note(parse_note(sign_note(text, name, seed).encode()), key)


@given(checkpoint=checkpoints)
def test_checkpoints_survive_writing_and_reading(checkpoint: Checkpoint) -> None:
    """Reading a written checkpoint gives it back, with its extension lines."""
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint


@given(name=names, public_key=st.binary(min_size=32, max_size=32))
def test_verifier_keys_survive_writing_and_reading(name: str, public_key: bytes) -> None:
    """Reading a written verifier key gives it back, whatever + its base64 holds."""
    key = parse_verifier_key(format_verifier_key(name, public_key))
    assert key == VerifierKey(name, public_key)
    assert str(key) == format_verifier_key(name, public_key)


@given(data=st.data())
def test_mutated_notes_are_damaged_or_unsigned(data: st.DataObject) -> None:
    """A changed note is damaged, fails to verify or says the same; what is read would be written so."""
    original = SIGNED.encode()
    position = data.draw(st.integers(0, len(original)))
    removed = data.draw(st.integers(0, 4))
    added = data.draw(st.binary(max_size=4))
    mutated = original[:position] + added + original[position + removed :]
    note = read_or_complain(parse_note, mutated)
    if note is None:
        return
    assert format_note(note.text, note.signatures).encode() == mutated
    verified = verify_note(note, VerifierKey("auditkit/3f9a1c", derive_public_key(RFC_SEED)))
    assert not verified or note.text == CHECKPOINT
    checkpoint = read_or_complain(parse_checkpoint, note.text)
    assert checkpoint is None or format_checkpoint(checkpoint) == note.text


@given(noise=st.one_of(st.binary(max_size=200), st.text(max_size=200), st.text("\n— +A=\ud800", max_size=40)))
def test_noise_is_damaged(noise: bytes | str) -> None:
    """Whatever is read as note, checkpoint or key, the only exception is StoreDamaged, in printable ASCII."""
    text = noise if isinstance(noise, str) else noise.decode("utf-8", "surrogateescape")
    read_or_complain(parse_note, noise)
    read_or_complain(parse_checkpoint, text)
    read_or_complain(parse_verifier_key, text)


ONE = "hello\n\n— example.com AAAAAHNpZ25hdHVyZQ==\n"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected an empty line before the signatures, found none in 0 bytes"),
        (ONE.replace("\n\n", "\n"), "expected an empty line"),
        (ONE[:-1], "expected a newline at the end"),
        (ONE + "\n", "expected at least one signature, found none"),
        ("hello\n\n", "expected at least one signature, found none"),
        (ONE + "trailing\n", "expected a signature line"),
        (ONE.replace("—", "-"), "expected a signature line"),
        (ONE.replace("— ", "—"), "expected a signature line"),
        (ONE.replace("example.com", "example.com "), "in base64"),
        (ONE.replace("example.com", ""), "key name without spaces"),
        (ONE.replace("example.com", "a+b"), "key name without spaces"),
        (ONE.replace("example.com", "a\u00a0b"), "key name without spaces"),
        (ONE.replace("==", ""), "in base64"),
        (ONE.replace("Q==", "R=="), "in base64"),
        (ONE.replace("AAAAAHNpZ25hdHVyZQ==", "AAAAAA=="), "signature after it, found 4 and 0 bytes"),
        (ONE.replace("AAAAAHNpZ25hdHVyZQ==", "AAAA"), "found 3 and 0 bytes"),
        (ONE.replace("hello", "hel\tlo"), "no control characters but newlines, found '\\\\t' at 3"),
        (ONE.replace("hello\n", "hello\r\n"), "no control characters but newlines"),
        (ONE.replace("\n", "\r\n"), "expected an empty line"),
        (b"\xff" + ONE.encode(), "expected UTF-8, found invalid start byte at 0"),
        ("\ud800" + ONE, "expected UTF-8, found surrogates not allowed at 0"),
        ("x" * MAX_NOTE_BYTES + ONE, f"expected at most {MAX_NOTE_BYTES} bytes"),
        (
            ONE + ONE.partition("\n\n")[2] * MAX_SIGNATURES,
            f"expected at most {MAX_SIGNATURES} signatures, found 101",
        ),
    ],
)
def test_malformed_notes_say_what_was_found(data: bytes | str, message: str) -> None:
    """Each way in which a note can be malformed has its own message, which starts with where it was."""
    with pytest.raises(StoreDamaged, match=f"^ledger/00000007.commit: .*({message})"):
        parse_note(data, source="ledger/00000007.commit")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected three lines or more"),
        (CHECKPOINT[:-1], "expected three lines or more"),
        ("origin\n3\n", "expected three lines or more"),
        (CHECKPOINT + "no newline", "expected three lines or more"),
        (CHECKPOINT.replace("\n3\n", "\n03\n"), "tree size in decimal in line 2, found '03'"),
        (CHECKPOINT.replace("\n3\n", "\n+3\n"), "found '\\+3'"),
        (CHECKPOINT.replace("\n3\n", "\n-1\n"), "found '-1'"),
        (CHECKPOINT.replace("\n3\n", "\n\u0663\n"), "found '.u0663'"),
        (CHECKPOINT.replace("\n3\n", f"\n{MAX_TREE_SIZE + 1}\n"), f"from 0 to {MAX_TREE_SIZE}"),
        (CHECKPOINT.replace("\n3\n", f"\n{'9' * 5000}\n"), "in decimal"),
        (CHECKPOINT.replace("=", ""), "the root in base64"),
        (CHECKPOINT.replace("Kk=", "Kl="), "the root in base64"),
        (CHECKPOINT.replace(ROOT, "AAAA"), "root of 32 bytes, found 3"),
        (CHECKPOINT.replace(ROOT, ""), "the root in base64"),
        (CHECKPOINT.replace("auditkit/3f9a1c", ""), "aren't empty"),
        (CHECKPOINT.replace("audit", "a\x1bdit"), "without control characters, found 'a.x1bdit"),
        (CHECKPOINT + "\n", "aren't empty"),
        (CHECKPOINT + "extension\rline\n", "without control characters"),
    ],
)
def test_malformed_checkpoints_say_what_was_found(text: str, message: str) -> None:
    """A checkpoint that its formatter wouldn't write is refused, with what was expected and found."""
    with pytest.raises(StoreDamaged, match=f"^checkpoint: .*{message}"):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected <name>"),
        ("name", "expected <name>"),
        (GO_KEY.replace("c74f20a3", "C74F20A3"), "expected <name>"),
        (
            GO_KEY.replace("c74f20a3", "c74f20a4"),
            "expected key id c74f20a3 for this name and key, found c74f20a4",
        ),
        (GO_KEY.replace("Peter", "Petra"), "the line was changed or mistyped"),
        (GO_KEY.replace("PeterNeumann", ""), "key name without spaces"),
        (GO_KEY.replace("PeterNeumann", "Peter Neumann"), "key name without spaces"),
        (GO_KEY.replace("+ARpc", "+Arpc"), "Ed25519 key"),
        (GO_KEY[:-4], "Ed25519 key"),
        (GO_KEY + "=", "in base64"),
        (GO_KEY + "\n", "in base64"),
    ],
)
def test_malformed_verifier_keys_say_what_was_found(text: str, message: str) -> None:
    """A mistyped key is refused before it can fail to verify anything."""
    with pytest.raises(StoreDamaged, match=message):
        parse_verifier_key(text)


def test_a_secret_key_given_by_mistake_is_not_repeated() -> None:
    """Whoever passes the secret key where the public one belongs doesn't find it in the error."""
    secret = base64.b64encode(b"\x01" + GO_SEED).decode()
    for text in (f"PRIVATE+KEY+PeterNeumann+c74f20a3+{secret}", f"PeterNeumann+c74f20a3+{secret}!", secret):
        with pytest.raises(StoreDamaged) as caught:
            parse_verifier_key(text)
        assert secret[:12] not in str(caught.value)
    with pytest.raises(UsageError) as refused:
        sign_note("hello\n", "example.com", GO_SEED + b"!")
    assert str(refused.value) == "expected a secret key of 32 bytes, found 33"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: format_note("hello", [Signature("a", bytes(4), b"s")]), "text that ends in a newline"),
        (lambda: format_note("he\x00llo\n", [Signature("a", bytes(4), b"s")]), "no control characters"),
        (lambda: format_note("\ud800\n", [Signature("a", bytes(4), b"s")]), "lone surrogate"),
        (lambda: format_note("hello\n", []), "at least one signature"),
        (lambda: format_note("hello\n", [Signature("a", bytes(4), b"s")] * 101), "at most 100 signatures"),
        (lambda: format_note("hello\n", [Signature("a b", bytes(4), b"s")]), "key name without spaces"),
        (lambda: format_note("hello\n", [Signature("a", bytes(3), b"s")]), "found 3 and 1 bytes"),
        (
            lambda: format_note("x" * MAX_NOTE_BYTES + "\n", [Signature("a", bytes(4), b"s")]),
            "at most 1000000",
        ),
        (lambda: sign_note("hello", "a", RFC_SEED), "text that ends in a newline"),
        (lambda: sign_note("hello\n", "a\nb", RFC_SEED), "key name without spaces"),
        (lambda: format_checkpoint(Checkpoint("", 0, bytes(32))), "aren't empty"),
        (lambda: format_checkpoint(Checkpoint("a\nb", 0, bytes(32))), "without control characters"),
        (lambda: format_checkpoint(Checkpoint("a", -1, bytes(32))), "tree size from 0"),
        (lambda: format_checkpoint(Checkpoint("a", 0, bytes(31))), "root of 32 bytes, found 31"),
        (lambda: format_checkpoint(Checkpoint("a", 0, bytes(32), ("",))), "aren't empty"),
        (lambda: format_verifier_key("a+b", bytes(32)), "key name without spaces"),
        (lambda: format_verifier_key("a", bytes(31)), "public key of 32 bytes, found 31"),
    ],
)
def test_formatters_refuse_what_parsers_would(call: Any, message: str) -> None:
    """Nothing is written that couldn't be read back."""
    with pytest.raises(UsageError, match=message):
        call()


def test_reading_needs_no_cryptography() -> None:
    """The module imports and parses without loading cryptography, which only signing and verifying need."""
    code = (
        "import sys; from auditkit.note import parse_note, parse_verifier_key;"
        f"parse_note({GO_NOTE!r}); parse_verifier_key({GO_KEY!r});"
        "assert not any(name.startswith('cryptography') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0


def test_checkpoints_of_tessera() -> None:
    """Each checkpoint of tessera's test log verifies, reads, and is written back to the same bytes."""
    log = read_vectors("tessera_testdata_log.json")
    key = log["source"].rpartition("vkey ")[2]
    for size, signed in log["checkpoints"].items():
        note = parse_note(signed)
        assert verify_note(note, key)
        checkpoint = parse_checkpoint(note.text)
        assert (checkpoint.origin, checkpoint.size) == ("example.com/log/testdata", int(size))
        assert format_note(format_checkpoint(checkpoint), note.signatures) == signed


def test_a_timestamped_cosignature_is_kept_and_ignored() -> None:
    """A witness' cosignature, of another kind than ours, is carried along and takes no part in verifying."""
    vector = read_vectors("notes.json")["cosignature_v1"]
    name = vector["vkey"].partition("+")[0]
    raw = base64.b64decode(vector["signature"])
    cosigned = Signature(name, raw[:4], raw[4:])
    own = sign_text(vector["text"], "example.com/log", RFC_SEED)
    note = parse_note(format_note(vector["text"], [own, cosigned]))
    assert note.signatures == (own, cosigned)
    assert verify_note(note, VerifierKey("example.com/log", derive_public_key(RFC_SEED)))
    with pytest.raises(StoreDamaged, match="expected an Ed25519 key"):
        parse_verifier_key(vector["vkey"])
