"""The command line: ``auditkit``.

The group knows its commands by name only; a command's module is imported when it is called, and what it needs
(pandas, pyarrow, rich) when it works. So ``auditkit --help`` costs an interpreter and click.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with this process' arguments, and exit with its code."""
    # This is the program's entry, so an interrupt during the imports must be quiet too.
    try:
        from auditkit.cli.interrupts import end_at_once

        end_at_once()
        from auditkit.errors import ExtraMissing, require

        try:
            require("click", "cli")
        except ExtraMissing as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2)
        from auditkit.cli.program import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
