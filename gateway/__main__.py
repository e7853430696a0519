"""``python -m gateway``: the program ``sopgw``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gateway.cli import cli
from gateway.cli.output import ExitCode, run_program


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sopgw`` with the given arguments, those of the process by default."""
    if sys.flags.optimize:
        print("sopgw: refuses to run with assertions switched off (python -O)", file=sys.stderr)
        return int(ExitCode.REFUSED)
    return run_program(cli, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
