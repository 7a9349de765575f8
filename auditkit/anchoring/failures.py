"""What goes wrong on the way out: the store is sound, but its checkpoint didn't arrive."""

from __future__ import annotations

from auditkit.errors import AuditError


class AnchorFailed(AuditError):
    """A checkpoint couldn't be left outside the store, because of the network, the other side or a full disk.

    It accuses nobody: what is in the store is as good as before, and the next checkpoint covers it as well.

    Attributes:
        transient: Whether the same call may succeed later without anybody changing anything.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
