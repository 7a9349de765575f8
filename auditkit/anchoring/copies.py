r"""Checkpoints kept in files elsewhere: appended to one, and found again in whatever somebody kept.

A checkpoint proves something only where it lies out of reach of whoever may change the store: in a file on another
machine, in a mail, in the body of a webhook, in a report. `append_checkpoint` makes such a file, which is text:

```
auditkit/3f9a1c
3
Wqx3HImawpLnS/Gv4ubjAvi1WIOy0b8Ze0amvqbavKk=

— auditkit/3f9a1c <base64>

auditkit/3f9a1c
9
…
```

`find_checkpoints` finds the signed notes of one log in any text. It looks for the origin at the end of a line, a size,
a root, perhaps extension lines, an empty line and signature lines behind it. What is in front of the origin doesn't
matter; if it is only blanks and ``>``, each line must begin with the same, as in a mail's quotation or a listing. It
looks so at the bytes as they are and at what comes out of them by undoing JSON's escapes (twice, for a document in a
document), HTML's character references, and the quoted-printable encoding of mails. Base64 and packed files aren't
undone.

What is found isn't verified: anybody can put something of this form into a text. A note whose signature doesn't hold
says nothing, neither for the store nor against it.

Sources: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, RFC 8259 section 7 (escapes in JSON), RFC 2045 section 6.7
(quoted-printable).
"""

from __future__ import annotations

import binascii
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from auditkit import note
from auditkit.anchoring.failures import AnchorFailed
from auditkit.errors import StoreDamaged, UsageError
from auditkit.store.durable import hand_over, read_regular, sync_folder, write_all

__all__ = ["MAX_BYTES", "append_checkpoint", "find_checkpoints", "read_checkpoints"]

MAX_BYTES: Final = 64 << 20
"""Longest text that is searched for checkpoints."""

_APPEND_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ED25519_LENGTH: Final = 92
"""Characters of base64 for a key id and a signature of Ed25519."""

_DASH: Final = "— ".encode()

# All of them stop at the first character that can't belong, so that a search costs one pass.
_SIZE = re.compile(rb"(?:0|[1-9][0-9]{0,18})")
_ROOT = re.compile(rb"[A-Za-z0-9+/]{43}=")
_SIGNATURE = re.compile(_DASH + rb"([^\s]++) ([A-Za-z0-9+/]++={0,2})")
_LINE_END = re.compile(rb"\r?\n")
_QUOTATION = re.compile(rb"[ \t>]*+")
_PAGE = re.compile(rb"(?:<[^<>]*>|&#?[0-9A-Za-z]{1,8};)\s*\Z")
_ANY_CHECKPOINT = re.compile(rb"\r?\n[ \t>]*+(?:0|[1-9][0-9]{0,18})\r?\n[ \t>]*+[A-Za-z0-9+/]{43}=\r?\n")
_ANY_ORIGIN = re.compile(rb"[\w./:@-]{1,200}\Z")

_JSON_PLAIN: Final = {
    rb"\n": b"\n",
    rb"\r": b"\r",
    rb"\t": b"\t",
    rb"\b": b"\b",
    rb"\f": b"\f",
    rb"\"": b'"',
    rb"\/": b"/",
}
_JSON_CODE = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+")
_REFERENCE = re.compile(
    rb"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos|nbsp|mdash|plus|equals|sol));"
)
_NAMED: Final = {
    b"amp": "&",
    b"lt": "<",
    b"gt": ">",
    b"quot": '"',
    b"apos": "'",
    b"nbsp": "\xa0",
    b"mdash": "—",
    b"plus": "+",
    b"equals": "=",
    b"sol": "/",
}


def append_checkpoint(path: Path, signed_note: str) -> None:
    """Append a signed checkpoint to a text file, durably.

    The file is made, readable by its owner only, if it isn't there; its folder must be. It is only ever appended to, in
    one write and without being read, so it may be one that can't be read or overwritten here. What a killed process or
    a full disk left at its end, and two processes appending at once, do no harm to what is appended.

    Args:
        path: The file, outside the store. A link is followed.
        signed_note: The whole note, as the ledger has it.

    Raises:
        UsageError: If the note isn't a signed checkpoint, or something else than a file lies there.
        AnchorFailed: If the file can't be written.

    Example:
        >>> checkpoint = note.Checkpoint("auditkit/3f9a1c", 3, bytes(32))
        >>> signed = note.sign_note(note.format_checkpoint(checkpoint), "auditkit/3f9a1c", bytes(32))
        >>> append_checkpoint(Path("checkpoints.txt"), signed)
        >>> [each.text == note.format_checkpoint(checkpoint) for each in read_checkpoints(
        ...     Path("checkpoints.txt"), "auditkit/3f9a1c")]
        [True]
    """
    try:
        note.parse_checkpoint(note.parse_note(signed_note).text)
    except StoreDamaged as fault:
        raise UsageError(f"expected a signed checkpoint to be appended to {path}: {fault}") from None
    try:
        descriptor, made = _open_appending(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refuse_strange(path)
            if made:
                hand_over(descriptor, path.parent)
            # The newline ends what was perhaps torn, and is an empty line behind what wasn't.
            begin = "\n" if os.fstat(descriptor).st_size else ""
            write_all(descriptor, (begin + signed_note).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if made:
            sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise _refuse_strange(path) from None
        raise AnchorFailed(
            f"{path}: expected the checkpoint to be appended, found: {error.strerror or type(error).__name__}: "
            "name a file in a folder that is there and may be written to, or make room"
        ) from error


def _open_appending(path: Path) -> tuple[int, bool]:
    """Open the file to append to, perhaps as a new one; says whether it may be new."""
    try:
        return os.open(path, _APPEND_FLAGS), False
    except FileNotFoundError:
        return os.open(path, _APPEND_FLAGS | os.O_CREAT, 0o600), True


def _refuse_strange(path: Path) -> UsageError:
    return UsageError(f"expected a regular file to append checkpoints to, found something else at {path}")


def read_checkpoints(path: Path, origin: str) -> list[note.Note]:
    """Read the checkpoints of one log that somebody kept in a file.

    Args:
        path: The file: appended notes, a mail, a report, a webhook's body, a proof, a commit. A link is followed.
        origin: Name of the log, for a store ``auditkit/<store id>``.

    Returns:
        The signed notes, one at least. Their signatures aren't verified; see `find_checkpoints`.

    Raises:
        UsageError: If the file isn't there, isn't a file, is too long, or holds no checkpoint of this log; the message
            names the logs of which it does.
        OSError: If the system refuses to read it.

    Example:
        >>> _ = Path("mail.txt").write_text("Hello, nothing today.")
        >>> read_checkpoints(Path("mail.txt"), "auditkit/3f9a1c")
        Traceback (most recent call last):
        ...
        auditkit.errors.UsageError: expected a signed checkpoint of auditkit/3f9a1c in mail.txt, found none of any ...
    """
    try:
        data = read_regular(path, "a kept checkpoint", MAX_BYTES, UsageError, follow=True)
    except FileNotFoundError:
        raise UsageError(
            f"expected a file with a signed checkpoint of {_quote(origin)}, found none at {path}"
        ) from None
    except UsageError as error:
        # The advice of durable is for files of the store, which come from its backup.
        found = str(error).rpartition(": ")[0] or str(error)
        raise UsageError(f"{found}: name a file of text that holds a signed checkpoint") from None
    notes = find_checkpoints(data, origin, source=str(path))
    if notes:
        return notes
    others = _list_origins(data)
    if others:
        found = "a report of another store: its checkpoints are of " + ", ".join(map(_quote, others))
    else:
        found = "none of any store"
    raise UsageError(
        f"expected a signed checkpoint of {_quote(origin)} in {path}, found {found}: give a file that holds the whole "
        "note, from its first line to the signature"
    )


def find_checkpoints(data: bytes | str, origin: str, *, source: str = "checkpoints") -> list[note.Note]:
    r"""Find the signed checkpoints of one log in any text.

    Args:
        data: The text, of at most `MAX_BYTES` bytes; it may be anything.
        origin: Name of the log, for a store ``auditkit/<store id>``.
        source: Where the text came from, for the error message.

    Returns:
        The signed notes in the order they were found, each once. The text of each is a checkpoint, and one signature
        line at least has the log's own name and the length of Ed25519's. No signature is verified, and a text may hold
        any number of forgeries: take those that ``auditkit.note.verify_note`` accepts, and make nothing of the others.

    Raises:
        UsageError: If the origin can't be one, or the text is too long.

    Example:
        >>> checkpoint = note.Checkpoint("auditkit/3f9a1c", 3, bytes(32))
        >>> signed = note.sign_note(note.format_checkpoint(checkpoint), "auditkit/3f9a1c", bytes(32))
        >>> import json
        >>> body = json.dumps({"auditkit": "checkpoint", "checkpoint": signed})
        >>> find_checkpoints(f"{body}\n<pre>{signed}</pre>", "auditkit/3f9a1c") == [note.parse_note(signed)]
        True
    """
    note.format_checkpoint(note.Checkpoint(origin, 0, bytes(32)))
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        raise UsageError(
            f"{source}: expected a text of at most {MAX_BYTES:,} bytes, found {len(raw):,}: give less of it"
        )
    found: dict[note.Note, None] = {}
    for rendering, plain in _render(raw):
        for each in _find_plainly(rendering, origin, plain=plain):
            found[each] = None
    return list(found)


# Everything below works on bytes: whatever they are, they take no more room than they do, and they needn't be text.


def _render(raw: bytes) -> Iterator[tuple[bytes, bool]]:
    """Give the text as it is, and as it is meant if it is a document; one after the other, as each takes its room.

    With each comes whether the character references of HTML have been undone in it.
    """
    yield raw, False
    for undo in (_undo_json, _undo_html, _undo_mail):
        once = undo(raw)
        if once is None:
            continue
        yield once, undo is _undo_html
        for undo_again in (_undo_json, _undo_html):
            twice = undo_again(once)
            if twice is not None:
                yield twice, _undo_html in (undo, undo_again)


def _undo_json(data: bytes) -> bytes | None:
    if rb"\n" not in data:  # there is no note in a string that has only one line
        return None
    # Escaped backslashes step aside first, so that what is behind one isn't taken for an escape.
    data = data.replace(rb"\\", b"\\\0")
    for escape, meant in _JSON_PLAIN.items():
        data = data.replace(escape, meant)
    if rb"\u" in data:
        data = _replace(_JSON_CODE, _decode_codes, data)
    return data.replace(b"\\\0", b"\\")


def _decode_codes(match: re.Match[bytes]) -> bytes:
    units = bytes.fromhex(match[0].replace(b"\\u", b"").decode("ascii"))
    return units.decode("utf-16-be", "replace").encode()


def _undo_html(data: bytes) -> bytes | None:
    return _replace(_REFERENCE, _decode_reference, data) if b"&" in data and b";" in data else None


def _decode_reference(match: re.Match[bytes]) -> bytes:
    decimal, hexadecimal, name = match.groups()
    if name:
        return _NAMED[name].encode()
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code).encode("utf-8", "replace") if code <= 0x10FFFF else match[0]


def _replace(pattern: re.Pattern[bytes], decode: Callable[[re.Match[bytes]], bytes], data: bytes) -> bytes:
    """Do what ``pattern.sub`` does, which would keep millions of pieces at once: thirty times the text's own size."""
    result = bytearray()
    position = 0
    for match in pattern.finditer(data):
        result += data[position : match.start()]
        result += decode(match)
        position = match.end()
    result += data[position:]
    return bytes(result)


def _undo_mail(data: bytes) -> bytes | None:
    # A note has a dash that isn't ASCII, so one that was encoded so shows it.
    return binascii.a2b_qp(data) if b"=E2=80=94" in data.upper() else None


def _find_plainly(data: bytes, origin: str, *, plain: bool) -> Iterator[note.Note]:
    """Find the notes that stand in bytes as they are, but for the ends and beginnings of lines.

    Unless the text is `plain`, a name with character references behind a tag is meant otherwise, and is found later.
    """
    for match in re.finditer(re.escape(origin.encode()) + rb"(?=\r?\n)", data):
        line = data.rfind(b"\n", 0, match.start()) + 1
        quotation = data[line : match.start()] if _QUOTATION.fullmatch(data, line, match.start()) else b""
        try:
            found = _read_note(data, match.start(), quotation, origin)
        except StoreDamaged:
            continue
        if found is None or (
            not plain and _has_references(found) and _PAGE.search(data[max(0, match.start() - 100) : match.start()])
        ):
            continue
        yield found


def _has_references(found: note.Note) -> bool:
    texts = (found.text, *(each.name for each in found.signatures))
    return any("&" in text and _REFERENCE.search(text.encode()) for text in texts)


def _read_note(data: bytes, start: int, quotation: bytes, origin: str) -> note.Note | None:
    """Read the note whose first line begins at `start`; None or StoreDamaged if what stands there isn't one."""
    end = start + note.MAX_NOTE_BYTES
    lines: list[bytes] = []
    position = start - len(quotation)
    while True:
        newline = data.find(b"\n", position, end)
        if newline < 0:
            return None
        line = data[position:newline].removesuffix(b"\r")
        position = newline + 1
        if line in (quotation, quotation.rstrip()):
            break
        if not line.startswith(quotation):
            return None
        line = line[len(quotation) :]
        number = len(lines)
        # Whatever could be the beginning of another note ends this one, so that no line is read twice.
        if (
            (number == 1 and not _SIZE.fullmatch(line))
            or (number == 2 and not _ROOT.fullmatch(line))
            or (number > 2 and line.endswith(origin.encode()))
        ):
            return None
        lines.append(line)
    matches = list(_match_signatures(data, position, quotation))
    if not any(match[1] == origin.encode() and len(match[2]) == _ED25519_LENGTH for match in matches):
        return None
    signatures = filter(_is_signature, (match[0] + b"\n" for match in matches))
    found = note.parse_note(b"".join([*(line + b"\n" for line in lines), b"\n", *signatures]))
    note.parse_checkpoint(found.text)
    return found if any(each.name == origin for each in found.signatures) else None


def _match_signatures(data: bytes, position: int, quotation: bytes) -> Iterator[re.Match[bytes]]:
    """Give what looks like signature lines from `position` on, up to the first line that doesn't."""
    for _ in range(note.MAX_SIGNATURES):
        match = _SIGNATURE.match(data, position + len(quotation)) if data.startswith(quotation, position) else None
        if match is None:
            return
        yield match
        end = _LINE_END.match(data, match.end())
        if end is None:
            return
        position = end.end()


def _is_signature(line: bytes) -> bool:
    """Say whether a line can stand in a note, so that one that is torn or damaged doesn't spoil the others."""
    try:
        note.parse_note(b"-\n\n" + line)
    except StoreDamaged:
        return False
    return True


def _list_origins(data: bytes) -> list[str]:
    """List a few logs of which a text holds checkpoints, for the message to whoever gave the wrong file."""
    for rendering, plain in _render(data):
        origins: dict[str, None] = {}
        for number, match in enumerate(_ANY_CHECKPOINT.finditer(rendering)):
            name = _ANY_ORIGIN.search(rendering[max(0, match.start() - 200) : match.start()])
            if name:
                origins[name[0].decode("ascii")] = None
            if number == 1000 or len(origins) == 10:
                break
        confirmed = [each for each in origins if next(_find_plainly(rendering, each, plain=plain), None) is not None]
        if confirmed:
            return confirmed[:3]
    return []


def _quote(origin: str) -> str:
    plain = origin if origin.isascii() and origin.isprintable() else ascii(origin)
    return plain if len(plain) <= 100 else plain[:97] + "..."
