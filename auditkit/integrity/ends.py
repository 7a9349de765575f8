"""What the keys and the ends of the chains say: what was never signed, and what nobody can tell."""

from __future__ import annotations

from typing import Any, Final

from auditkit.event import DAY_US
from auditkit.integrity.inspection import RESTORE, Inspection
from auditkit.integrity.journals import JournalContent
from auditkit.store.layout import read_writer_day, start_of_day
from auditkit.store.ledger import LedgerState

_NAMED: Final = 5


def check_numbers(check: Inspection) -> None:
    """Report events that no key can prove, and keys that were drawn and never used."""
    for writer, count in check.unsigned.items():
        signs = writer in check.signers
        check.report(
            "tampered" if signs else "unverifiable",
            "finding" if signs else "incomplete",
            f"writer {writer}",
            "signed events",
            f"{count} without a MAC: "
            + ("it signs its others" if signs else "recorded with enable_integrity=False, or their MACs were removed"),
            advice=RESTORE if signs else "only the tree vouches for them, from their sealing on",
            writer=writer,
            events=count,
        )
    for writer, count in check.keyless.items():
        check.report(
            "missing",
            "finding",
            f"writer {writer}",
            "its first event, which says which key it signs with",
            f"none, so {count} events can't be proved",
            writer=writer,
            events=count,
        )
    if check.keys is None or check.since_us is not None or check.until_us is not None or not check.deep:
        return
    if check.drawn is None:
        check.report(
            "unanchored",
            "note",
            "journal",
            "a count of the writers, as the store's own key file keeps it",
            "none: a whole journal that was deleted before its sealing couldn't be seen",
            advice="record with the store's own key file, or seal often",
        )
        return
    unused = [n for n in range(check.drawn) if not check.used[n]]
    if unused:
        check.report(
            "unanchored",
            "note",
            "journal",
            f"a writer or a commit for each of the {check.drawn} keys that were drawn",
            f"none for number {_name_some(unused)}: processes that ended before their first event, deleted journals"
            + (", or what the findings name" if check.findings else ""),
            advice="if a process is known to have recorded then, look for its journal in a backup",
        )


def check_ends(check: Inspection, state: LedgerState, contents: dict[str, JournalContent]) -> None:
    """Tell which writers' ends aren't signed: a crash and a cut tail look alike."""
    open_ends = []
    for writer in sorted(set(state.heads) | set(contents)):
        day = read_writer_day(writer)
        if day is None or not check.overlaps(start_of_day(day), start_of_day(day) + DAY_US - 1):
            continue
        head = state.heads.get(writer)
        content = contents.get(writer)
        closed = bool(head and head.closed) or bool(content and _ends_closed(content))
        if not closed and not (content and content.owned):
            open_ends.append(writer)
    if open_ends:
        check.report(
            "unanchored",
            "note",
            "journal",
            "a signed end of every writer whose process is gone",
            f"none of {len(open_ends)}: {_name_some(open_ends)}; a killed process and a cut tail look alike",
            advice="compare with what the application knows of its last events",
            writer=open_ends[0] if len(open_ends) == 1 else None,
        )


def _ends_closed(content: JournalContent) -> bool:
    return bool(content.lines) and b'"type":"auditkit.closed"' in content.lines[-1][1]


def _name_some(items: list[Any]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(map(str, items[:_NAMED])) + more


def tell_quarantine(check: Inspection) -> None:
    """Note what sealings set aside."""
    if not check.layout.quarantine.is_dir():
        return
    for path in sorted(check.layout.quarantine.glob("[!.]*")):
        check.report(
            "quarantined",
            "note",
            f"quarantine/{path.name}",
            "nothing set aside",
            "lines that a sealing could not believe",
            advice="look at the reasons in the file, then archive it elsewhere",
        )
