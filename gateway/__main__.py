"""``python -m gateway``: the program ``sopgw``."""

from __future__ import annotations

import os
import sys

from gateway.cli.front import answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``sopgw`` with the given arguments, those of the process by default."""
    if sys.flags.optimize:
        print("sopgw: refuses to run with assertions switched off (python -O)", file=sys.stderr)
        return 5  # refused
    words = sys.argv[1:] if arguments is None else arguments
    text = answer(words, os.environ)
    if text is not None:
        return _print(text)
    # Only now: the help page and most Tab presses need none of it.
    from gateway.cli.output import run_program  # noqa: PLC0415
    from gateway.cli.root import cli  # noqa: PLC0415

    return run_program(cli, words)


def _print(text: str) -> int:
    """Print a whole answer; whoever reads us may have gone, or the disk is full."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Keep the interpreter from trying once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"sopgw: the answer cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
