"""Day files of requests-1 and the result documents of its three methods."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ledger.contracts import certificate, exact, mopso
from ledger.contracts.document import EXACT_MAX, DocumentRefused, Mistake, Node, digest
from ledger.contracts.requests import (
    CONTRACT,
    Day,
    DayFlows,
    Storage,
    Supplier,
    User,
    cheapest_first,
    nearest_first,
    run_day,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ledger.contracts.requests import SlotProblem

ENERGY_MAX_WH = 10**12
PRICE_MAX_UCUR = 10**9
"""A thousand units of currency a kWh."""
SLOTS_MAX = 3000
PARTIES_MAX = 2000
METHODS = ("request", "mopso", "exact")

DAY_KEYS = {"contract", "slot_s", "suppliers", "users", "distance_km"}
DAY_OPTIONS = {
    "transmission_price_per_kwh_km",
    "capacity_wh",
    "voll_per_kwh",
    "prev_hash",
    "start",
    "reconstructed",
    "note",
}


def day_from(value: Any) -> Day:
    """Read a day; raise DocumentRefused with every mistake in it."""
    mistakes: list[Mistake] = []
    top = Node(value, mistakes)
    top.fields(required=DAY_KEYS, optional=DAY_OPTIONS)
    if not isinstance(value, dict):
        raise DocumentRefused(mistakes)
    top.at("contract").choice(CONTRACT)
    nodes = top.at("suppliers").items(low=1, high=PARTIES_MAX)
    first = nodes[0].value.get("available_wh") if nodes and isinstance(nodes[0].value, dict) else 0
    slots = len(first) if isinstance(first, list) else 0
    if not 1 <= slots <= SLOTS_MAX:
        top.at("suppliers").wrong(f"the first must have 1 to {SLOTS_MAX} slots")
        raise DocumentRefused(mistakes)
    suppliers = tuple(_supplier(node, slots) for node in nodes)
    users = tuple(_user(node, slots) for node in top.at("users").items(low=1, high=PARTIES_MAX))
    names = [*(supplier.id for supplier in suppliers), *(user.id for user in users)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        top.wrong(f"has the identity {name!r} twice")
    shape = len(suppliers), len(users)
    # A supplier that says nothing readable of its energy has none: its mistake is noted already.
    widest = max((wh for supplier in suppliers for wh in supplier.available_wh), default=0)
    day = Day(
        slot_s=top.at("slot_s").integer(low=60, high=86_400),
        suppliers=suppliers,
        users=users,
        distance_km=_matrix(top.at("distance_km"), shape, high=10**5),
        transmission_ucur_per_kwh_km=_price(top, "transmission_price_per_kwh_km", 0),
        capacity_wh=_matrix(top.at("capacity_wh"), shape, high=ENERGY_MAX_WH)
        if top.has("capacity_wh")
        else ((widest,) * shape[1],) * shape[0],
        voll_ucur_per_kwh=_price(top, "voll_per_kwh", 10_000_000),
        prev_hash=_hash(top.at("prev_hash")) if top.has("prev_hash") else b"",
    )
    if mistakes:
        raise DocumentRefused(mistakes)
    return day


def _price(top: Node, key: str, default: int) -> int:
    return top.at(key).integer(low=0, high=PRICE_MAX_UCUR) if top.has(key) else default


def _hash(node: Node) -> bytes:
    text = node.text(size_max=128)
    try:
        return bytes.fromhex(text)
    except ValueError:
        node.wrong("must be hexadecimal")
        return b""


def _matrix(node: Node, shape: tuple[int, int], *, high: int) -> tuple[tuple[int, ...], ...]:
    rows = node.items()
    if isinstance(node.value, list) and len(rows) != shape[0]:
        node.wrong(f"must have {shape[0]} rows, one a supplier, has {len(rows)}")
    return tuple(row.integers(count=shape[1], low=0, high=high) for row in rows)


def _supplier(node: Node, slots: int) -> Supplier:
    node.fields(required={"id", "available_wh", "price"}, optional={"technology", "renewable"})
    return Supplier(
        id=node.at("id").name(),
        technology=node.at("technology").text() if node.has("technology") else "unknown",
        renewable=node.at("renewable").flag() if node.has("renewable") else False,
        available_wh=node.at("available_wh").integers(count=slots, low=0, high=ENERGY_MAX_WH),
        price_ucur_per_kwh=node.at("price").integers(count=slots, low=0, high=PRICE_MAX_UCUR),
    )


def _user(node: Node, slots: int) -> User:
    node.fields(required={"id", "demand_wh"}, optional={"storage"})
    return User(
        id=node.at("id").name(),
        demand_wh=node.at("demand_wh").integers(count=slots, low=0, high=ENERGY_MAX_WH),
        storage=_storage(node.at("storage")) if node.has("storage") else Storage(),
    )


def _storage(node: Node) -> Storage:
    keys = ("initial_wh", "max_wh", "target_wh", "charge_wh", "discharge_wh")
    node.fields(required=set(keys))
    initial, high, target, charge, discharge = (
        node.at(key).integer(low=0, high=ENERGY_MAX_WH) for key in keys
    )
    if initial > high:
        node.at("initial_wh").wrong(f"must be at most max_wh, {high}")
    if target > high:
        node.at("target_wh").wrong(f"must be at most max_wh, {high}")
    return Storage(
        initial_wh=initial,
        max_wh=high,
        target_wh=target,
        charge_max_wh=charge,
        discharge_max_wh=discharge,
    )


def outcome(day: Day, method: str, *, order: str = "nearest") -> dict[str, Any]:
    """Run a method on a day; raise DocumentRefused where its amounts leave exact JSON integers."""
    proof: dict[str, list[list[int]]] | None = None
    if method == "exact":
        flows, proof, _ = exact.solve(day)
    else:
        sequence = nearest_first if order == "nearest" else cheapest_first
        flows = run_day(day, _slot_solver(day, method, sequence), sequence)
    return result_of(day, method, flows, proof, order=order)


def _slot_solver(
    day: Day, method: str, order: Callable[[SlotProblem], tuple[tuple[int, int], ...]]
) -> Callable[[SlotProblem], list[list[int]]]:
    if method == "request":
        return lambda problem: walk(problem, order(problem))
    kernel: Callable[[SlotProblem, mopso.Order], mopso.Kernel]
    try:
        # Faster where NumPy is installed; the bits are the same without it.
        from ledger.contracts.mopso_numpy import kernel  # noqa: PLC0415
    except ModuleNotFoundError:
        kernel = mopso.PureKernel
    return lambda problem: mopso.solve(problem, prev_hash=day.prev_hash, order=order, kernel=kernel)


def result_of(
    day: Day,
    method: str,
    flows: DayFlows,
    proof: dict[str, list[list[int]]] | None,
    *,
    order: str = "nearest",
) -> dict[str, Any]:
    """Write a method's answer as the document that is hashed, compared and countersigned."""
    slots, users = range(day.slot_count), range(len(day.users))
    entries = [
        (i, j, t, flows.flow_wh[t][i][j])
        for t in slots
        for i in range(len(day.suppliers))
        for j in users
        if flows.flow_wh[t][i][j]
    ]
    cost = sum(day.cost_ncur_per_wh(i, j, t) * energy for i, j, t, energy in entries)
    unserved = sum(map(sum, flows.unserved_wh))
    missed = sum(
        max(0, user.storage.target_wh - levels[-1])
        for user, levels in zip(day.users, flows.storage_wh, strict=True)
    )
    objective = cost + day.voll_ucur_per_kwh * (unserved + missed)
    if objective > EXACT_MAX:
        message = f"amounts reach {objective}, beyond exact JSON integers: split the day"
        raise DocumentRefused([Mistake(path="$", message=message)])
    result: dict[str, Any] = {
        "contract": CONTRACT,
        "method": method,
        "flows": [
            {"supplier": day.suppliers[i].id, "user": day.users[j].id, "slot": t, "wh": energy}
            for i, j, t, energy in entries
        ],
        "f1": cost,
        "f2": sum(energy for i, _, _, energy in entries if day.suppliers[i].renewable),
        "unserved_wh": unserved,
        "target_missed_wh": missed,
        "objective": objective,
        "storage_wh": {
            user.id: list(levels) for user, levels in zip(day.users, flows.storage_wh, strict=True)
        },
        "certificate": proof,
    }
    if method != "exact":
        result["order"] = order
    result["digest"] = digest(result)
    return result


def flaws_of(day: Day, result: Any) -> list[str]:
    """Check a result of ``exact`` as every node does: from the document alone, without a solver."""
    if not isinstance(result, dict):
        return ["the result is not an object"]
    frame = {"schema", "ok", "exit_code"}
    result = {key: value for key, value in result.items() if key not in frame}
    flows, flaws = _flows_from(day, result)
    if flaws:
        return flaws
    found = certificate.flaws(day, flows, result.get("certificate"))
    if found:
        return found
    again = result_of(day, "exact", flows, result["certificate"])
    wrong = sorted(key for key in again if result.get(key) != again[key])
    wrong += sorted(set(result) - set(again))
    return [f"{key} does not follow from the flows" for key in wrong]


def _flows_from(day: Day, result: dict[str, Any]) -> tuple[DayFlows, list[str]]:
    slots, users = range(day.slot_count), range(len(day.users))
    flow = [[[0] * len(day.users) for _ in day.suppliers] for _ in slots]
    empty = DayFlows(flow_wh=(), storage_wh=(), unserved_wh=())
    suppliers = {supplier.id: i for i, supplier in enumerate(day.suppliers)}
    buyers = {user.id: j for j, user in enumerate(day.users)}
    try:
        for entry in result["flows"]:
            t, wh = entry["slot"], entry["wh"]
            if type(t) is not int or type(wh) is not int or t not in slots or wh <= 0:
                return empty, [f"the flow {entry} is none"]
            flow[t][suppliers[entry["supplier"]]][buyers[entry["user"]]] += wh
        stored = tuple(tuple(result["storage_wh"][user.id]) for user in day.users)
    except (KeyError, TypeError):
        return empty, ["a flow or a storage level names nobody of the day"]
    if any(len(row) != day.slot_count or any(type(v) is not int for v in row) for row in stored):
        return empty, ["storage_wh does not have the shape of the day"]
    return replace(
        empty,
        flow_wh=tuple(tuple(tuple(row) for row in table) for table in flow),
        storage_wh=stored,
        unserved_wh=tuple(
            tuple(_unserved(day, flow[t], stored[j], j, t) for t in slots) for j in users
        ),
    ), []


def _unserved(
    day: Day, flow: Sequence[Sequence[int]], levels: Sequence[int], user: int, slot: int
) -> int:
    """What the balance of a slot leaves unserved; negative (and refused) when too much came."""
    before = levels[slot - 1] if slot else day.users[user].storage.initial_wh
    received = sum(row[user] for row in flow)
    return day.users[user].demand_wh[slot] + levels[slot] - before - received
