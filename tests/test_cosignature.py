"""Cosignatures: another implementation's bytes, and nothing hostile gets through."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.cosignature import (
    MAX_TIME,
    CosignerKey,
    cosign_text,
    parse_cosigner_key,
    read_cosignature_time,
    verify_cosignature,
)
from auditkit.errors import StoreDamaged, UsageError
from auditkit.note import (
    MAX_TREE_SIZE,
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    derive_public_key,
    format_checkpoint,
    format_note,
    parse_note,
    parse_verifier_key,
    sign_text,
    verify_note,
)

# From the test data of FiloSottile/sunlight, cmd/skylight/testdata/witness: a real witness's key and cosignature.
VKEY = "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN"
TIME = 1767139200
TEXT = "rome2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n"
LINE = (
    "— witness.example.org "
    "uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LGvqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==\n"
)

SEED = bytes(range(32))
KEY = CosignerKey("witness.example/w1", derive_public_key(SEED))

lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=30)
names = lines.filter(lambda name: "+" not in name and not any(char.isspace() for char in name))
seeds = st.binary(min_size=32, max_size=32)
times = st.integers(0, MAX_TIME)
checkpoints = st.builds(
    Checkpoint,
    lines,
    st.integers(0, MAX_TREE_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=3).map(tuple),
)


def cosign(time_s: int, text: str = TEXT) -> Signature:
    return cosign_text(text, KEY.name, SEED, time_s)


def test_the_cosignature_of_another_implementation_verifies() -> None:
    """A cosignature that a witness of another implementation made verifies, at the time it states."""
    key = parse_cosigner_key(VKEY)
    assert verify_cosignature(parse_note(TEXT + "\n" + LINE), key) == TIME
    assert str(key) == VKEY


@pytest.mark.parametrize("changed", [TEXT.replace("300", "301"), TEXT.replace("lCk", "lCl"), TEXT + "extension\n"])
def test_a_changed_checkpoint_is_not_cosigned(changed: str) -> None:
    """One change in the text, an added line included, and nobody vouches for it."""
    assert verify_cosignature(parse_note(changed + "\n" + LINE), parse_cosigner_key(VKEY)) is None


def test_a_changed_time_is_not_vouched_for() -> None:
    """The time is signed: stating another one spoils the signature."""
    (signature,) = parse_note(TEXT + "\n" + LINE).signatures
    later = replace(signature, signature=(TIME + 1).to_bytes(8, "big") + signature.signature[8:])
    assert verify_cosignature(Note(TEXT, (later,)), parse_cosigner_key(VKEY)) is None


def test_a_log_and_its_witness_cannot_be_taken_for_each_other() -> None:
    """The same name and key give another id as a log's than as a cosigner's, and neither signature is the other's."""
    log = VerifierKey(KEY.name, KEY.public_key)
    assert log.key_id != KEY.key_id
    signed, cosigned = Note(TEXT, (sign_text(TEXT, KEY.name, SEED),)), Note(TEXT, (cosign(TIME),))
    assert verify_note(signed, log)
    assert verify_cosignature(signed, KEY) is None
    assert verify_cosignature(cosigned, KEY) == TIME
    assert not verify_note(cosigned, log)
    with pytest.raises(StoreDamaged, match="found type 1 and 32 bytes: this is the key of a log"):
        parse_cosigner_key(str(log))
    with pytest.raises(StoreDamaged):
        parse_verifier_key(str(KEY))


def test_of_several_lines_all_must_hold_and_the_latest_counts() -> None:
    """A cosigner that signed twice vouches as of the later time; one bad line of its own spoils them all."""
    early, late = cosign(TIME), cosign(TIME + 60)
    assert verify_cosignature(Note(TEXT, (late, early)), KEY) == TIME + 60
    bad = replace(early, signature=early.signature[:-1] + bytes([early.signature[-1] ^ 1]))
    assert verify_cosignature(Note(TEXT, (late, early, bad)), KEY) is None
    stranger = Signature("witness.example/w2", KEY.key_id, bad.signature)
    assert verify_cosignature(Note(TEXT, (stranger, early)), KEY) == TIME


@pytest.mark.parametrize("length", [1, 7, 8, 64, 71, 73, 2428])
def test_signatures_of_another_length_do_not_verify(length: int) -> None:
    """A cosignature that is too short or too long is none, and no exception."""
    signature = Signature(KEY.name, KEY.key_id, cosign(TIME).signature[:length].ljust(length, b"\0"))
    assert read_cosignature_time(signature) is None
    assert verify_cosignature(parse_note(format_note(TEXT, [signature])), KEY) is None


def test_a_time_beyond_the_largest_is_not_vouched_for() -> None:
    """The specification ends time at 2^63 - 1: a signature that holds otherwise is refused behind it."""
    assert verify_cosignature(Note(TEXT, (cosign(MAX_TIME),)), KEY) == MAX_TIME
    with pytest.raises(UsageError, match="expected a time from 0"):
        cosign(2**63)
    with pytest.raises(UsageError, match="expected a time from 0"):
        cosign(-1)
    proper = sign_text(f"cosignature/v1\ntime {2**63}\n{TEXT}", KEY.name, SEED).signature
    beyond = Signature(KEY.name, KEY.key_id, (2**63).to_bytes(8, "big") + proper)
    assert verify_cosignature(Note(TEXT, (beyond,)), KEY) is None


def test_only_checkpoints_are_cosigned() -> None:
    """A cosigner makes a statement on a log: it signs no other text, and none that can't be a note."""
    for text in ("hello\n", TEXT.replace("300", "0300"), TEXT[:-1], TEXT + "\n"):
        with pytest.raises(UsageError, match="only a checkpoint can be cosigned"):
            cosign(TIME, text)
    with pytest.raises(UsageError, match="expected a key name"):
        cosign_text(TEXT, "two words", SEED, TIME)
    with pytest.raises(UsageError, match="32 bytes, found 3"):
        cosign_text(TEXT, KEY.name, b"key", TIME)


@given(checkpoint=checkpoints, name=names, seed=seeds, time_s=times)
def test_whatever_is_cosigned_verifies(checkpoint: Checkpoint, name: str, seed: bytes, time_s: int) -> None:
    """Any checkpoint, cosigned under any name at any time, verifies when it was written and read."""
    text = format_checkpoint(checkpoint)
    key = parse_cosigner_key(str(CosignerKey(name, derive_public_key(seed))))
    signed = [sign_text(text, "log", SEED), cosign_text(text, name, seed, time_s)]
    assert verify_cosignature(parse_note(format_note(text, signed)), key) == time_s


@given(name=names, public_key=st.binary(min_size=32, max_size=32))
def test_cosigner_keys_survive_writing_and_reading(name: str, public_key: bytes) -> None:
    """Reading a written key gives it back, whatever + its base64 holds."""
    key = CosignerKey(name, public_key)
    assert parse_cosigner_key(str(key)) == key


@given(data=st.data())
def test_mutated_keys_are_refused_without_repeating_them(data: st.DataObject) -> None:
    """A changed key is refused, in printable ASCII that shows nothing of what was given; or it is another key."""
    position = data.draw(st.integers(0, len(VKEY)))
    removed = data.draw(st.integers(0, 4))
    mutated = VKEY[:position] + data.draw(st.text(max_size=3)) + VKEY[position + removed :]
    try:
        key = parse_cosigner_key(mutated)
    except StoreDamaged as error:
        message = str(error)
    else:
        assert str(key) == mutated
        return
    assert message.isascii()
    assert message.isprintable()
    assert VKEY[-20:] not in message


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "found 0 characters of another form"),
        ("name+b8a2cf20", "of another form"),
        (VKEY.replace("b8a2cf20", "B8A2CF20"), "of another form"),
        (VKEY.replace("b8a2cf20", "b8a2cf21"), "expected key id b8a2cf20 for this name and key, found b8a2cf21"),
        (VKEY.replace(".org", ".com"), "the line was changed or mistyped"),
        (VKEY + "\n", "expected the public key in base64, found 45 other characters"),
        (VKEY[:-1], "expected the public key in base64"),
        (VKEY.replace("+BF", "+"), "expected the public key in base64"),
        ("+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN", "expected a key name"),
        ("a b+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN", "expected a key name"),
        (f"w+b8a2cf20+{base64.b64encode(bytes([6]) + bytes(1312)).decode()}", "ML-DSA-44 aren't known"),
        (f"w+b8a2cf20+{base64.b64encode(bytes([4]) + bytes(31)).decode()}", "found type 4 and 31 bytes"),
    ],
)
def test_keys_of_another_form_are_refused(text: str, message: str) -> None:
    """Whatever ``str()`` wouldn't write isn't read, and the message says what was expected."""
    with pytest.raises(StoreDamaged, match=message) as refused:
        parse_cosigner_key(text, source="--witness")
    assert str(refused.value).startswith("--witness: expected" if "key name" not in message else "--witness: ")


def test_reading_a_key_needs_no_extra() -> None:
    """The module and the parser work where cryptography isn't installed."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        f"from auditkit.cosignature import parse_cosigner_key; print(parse_cosigner_key({VKEY!r}))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == VKEY
