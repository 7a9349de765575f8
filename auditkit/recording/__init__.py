"""Recording: sign an event, chain it to the one before, append it to the journal."""

from auditkit.recording.recorder import MAX_OPEN_WRITERS, Recorder
from auditkit.recording.writer import (
    EPOCH_US,
    MAX_WAITING_BYTES,
    RETRY_SECONDS,
    OnFailure,
    RecordingWarning,
    UnencodableText,
)

__all__ = [
    "EPOCH_US",
    "MAX_OPEN_WRITERS",
    "MAX_WAITING_BYTES",
    "RETRY_SECONDS",
    "OnFailure",
    "Recorder",
    "RecordingWarning",
    "UnencodableText",
]
