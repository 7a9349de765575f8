"""Ctrl-C: while the program loads it ends at once, as if it had never begun; from then on it is an exception."""

from __future__ import annotations

import signal


def end_at_once() -> None:
    """Let Ctrl-C end the process without a word: an interrupted import of a compiled library may crash.

    A process that was started to ignore it (``nohup``, a shell's ``&``) goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_from_now_on() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, so that what is under way is put in order first; the libraries are loaded."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
