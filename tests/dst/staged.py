"""The staged block as bytes: what an intent must carry and what the wire must show."""

import struct


def block_of(instruction, terminals):
    at = {s.terminal: s for s in instruction.setpoints}
    return b"".join(
        struct.pack(
            ">iiHHB", at[t.id].p_w, at[t.id].q_var, int(at[t.id].mode),
            instruction.ramp_of(at[t.id]), 0,
        )
        for t in terminals
    )  # fmt: skip
