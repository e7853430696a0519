"""What a forked gateway runs: the whole program, its messages in a file."""

import os
import sys


def program(arguments, log):
    """Run ``sopgw`` with these arguments in this process and end with its code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    from gateway.__main__ import main

    sys.exit(main(arguments))
