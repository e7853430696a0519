"""Entry point of ``sopledger``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from ledger.cli import sopledger  # noqa: PLC0415 - worker processes import this file too
    from ledger.cli.output import run  # noqa: PLC0415

    sys.exit(run(sopledger, sys.argv[1:]))


if __name__ == "__main__":
    main()
