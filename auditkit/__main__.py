"""``python -m auditkit``: the command line without an installed script."""

from __future__ import annotations

from auditkit.cli import main

if __name__ == "__main__":
    main()
