"""Sealing from the command line: what ``auditkit seal`` and ``auditkit rotate`` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditkit.cli.declarations import Exit, Settings

if TYPE_CHECKING:
    from auditkit.sealing import SealResult


def seal_trail(settings: Settings) -> int:
    """Seal what the journals hold, and say what was done.

    Returns:
        The exit code: findings if lines could not be believed and were set aside.
    """
    trail = settings.open_trail()
    with settings.terminal.show_status("sealing"):
        result = trail.seal()
    if settings.format == "json":
        from auditkit.cli.cells import write_json

        write_json(_describe(result))
    else:
        _print_result(settings, result)
    if result.quarantined:
        settings.terminal.warn(
            f"{result.quarantined:,} journal lines could not be believed and were set aside in "
            f"{trail.path / 'quarantine'}: run `auditkit integrity` to see which"
        )
        return Exit.FINDINGS
    return Exit.SOUND


def _print_result(settings: Settings, result: SealResult) -> None:
    from auditkit.cli.cells import count_things
    from auditkit.cli.terminal import make_text
    from auditkit.times import format_duration

    if result.busy:
        settings.terminal.note("another process is sealing this store")
    elif result.commit is None:
        settings.terminal.note("nothing to seal: the journals hold no events")
    else:
        settings.terminal.out.print(
            make_text(
                f"{count_things(result.events, 'event')} sealed into {count_things(len(result.segments), 'segment')}, "
                f"ledger commit {result.commit}, {format_duration(result.seconds)}"
            ),
            soft_wrap=True,
        )
        for segment in result.segments:
            settings.terminal.debug(segment)


def _describe(result: SealResult) -> dict[str, Any]:
    return {
        "events": result.events,
        "segments": result.segments,
        "commit": result.commit,
        "quarantined": result.quarantined,
        "busy": result.busy,
        "duration_s": result.seconds,
    }
