"""Draws the life of an instruction from the table that decides it.

    python docs/dispatch_table.py          prints the diagram that stands in docs/architecture.md

``tests/test_docs.py`` fails when the page shows another one.
"""

import sys

from gateway.core.dispatch import OPEN, TRANSITIONS, Phase


def diagram() -> str:
    """The transition table as a Mermaid state diagram; events of one arrow share its label."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {Phase.INTENDED.value}: intent"]
    for before, steps in TRANSITIONS.items():
        arrows: dict[Phase, list[str]] = {}
        for event, after in steps.items():
            arrows.setdefault(after, []).append(event.value)
        lines += [
            f"    {before.value} --> {after.value}: {', '.join(events)}"
            for after, events in arrows.items()
        ]
    lines += [f"    {phase.value} --> [*]" for phase in Phase if phase not in OPEN]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(diagram() + "\n")
