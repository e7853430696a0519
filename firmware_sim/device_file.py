"""A soft open point of one's own, described by a file: any number of terminals from two on."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from firmware_sim.plant.ratings import SPECS, DeviceSpec, LossCurve, Ratings
from firmware_sim.yamlfile import Reader

TERMINALS_MAX = 32


def read_device(path: Path) -> DeviceSpec:
    """Read a device file; raises FileMistakesError with every mistake."""
    reader = Reader(path)
    root = reader.mapping(reader.root, "file", reader.root)
    spec = device_from(reader, root, name=path.stem)
    reader.finish()
    return spec


def device_from(reader: Reader, root: CommentedMap, *, name: str) -> DeviceSpec:
    """The device a map describes; on mistakes any valid device, the reader keeps the mistakes."""
    reader.known(root, ("kind", "v_dc", "losses", "terminals", "tau_master"))
    v_dc = reader.quantity(root, "v_dc", "voltage", low=1.0)
    losses = reader.mapping(root, "losses", root.get("losses", CommentedMap()))
    reader.known(losses, ("a", "b", "c"))
    curve = LossCurve(
        a_pu=reader.quantity(losses, "a", "ratio", default=0.004, low=0.0, high=0.1),
        b_pu=reader.quantity(losses, "b", "ratio", default=0.006, low=0.0, high=0.1),
        c_pu=reader.quantity(losses, "c", "ratio", default=0.006, low=0.0, high=0.1),
    )
    items = reader.sequence(root, "terminals")
    if not 2 <= len(items) <= TERMINALS_MAX:
        reader.complain(root, "terminals", f"terminals: two to {TERMINALS_MAX} are possible")
    terminals = []
    for index, item in enumerate(items):
        entry = reader.mapping(items, index, item)
        reader.known(entry, ("s", "v_ac", "c_dc", "tau_p"))
        terminals.append(
            Ratings(
                s_va=round(reader.quantity(entry, "s", "apparent", low=1.0)),
                v_ac_nominal_v=reader.quantity(entry, "v_ac", "voltage", low=1.0),
                c_dc_f=reader.quantity(entry, "c_dc", "capacitance", low=1e-9),
                tau_p_s=reader.quantity(entry, "tau_p", "time", default=0.02, low=0.001),
            )
        )
    if reader.mistakes:
        return next(iter(SPECS.values()))
    return DeviceSpec(
        kind=reader.text(root, "kind", name),
        terminals=tuple(terminals),
        v_dc_nominal_v=v_dc,
        losses=curve,
        tau_master_s=reader.quantity(root, "tau_master", "time", default=0.003, low=0.0005),
    )
