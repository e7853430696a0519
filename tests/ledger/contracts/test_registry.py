import pytest

from ledger.contracts.document import Node
from ledger.contracts.registry import Registry

KEY = {n: f"{n:064x}" for n in range(9)}


def do(action, body, *arguments):
    mistakes = []
    action(*arguments, Node(body, mistakes))
    return [(mistake.path, mistake.message) for mistake in mistakes]


@pytest.fixture
def registry():
    found = Registry()
    assert do(found.join, {"id": "A", "key": KEY[1], "role": "region", "terminal": "T1", "deposit": 100, "technology": "wind", "storage_wh": 5}) == []  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": "A"}, "$.id"),
        ({"key": KEY[1]}, "$.key"),
        ({"key": "ab"}, "$.key"),
        ({"key": KEY[2].upper().replace("0", "G")}, "$.key"),
        ({"terminal": "T1"}, "$.terminal"),
        ({"terminal": None}, "$"),
        ({"terminal": "sop-owner"}, "$.terminal"),
        ({"terminal": "loss-supplier"}, "$.terminal"),
        ({"role": "king"}, "$.role"),
        ({"deposit": -1}, "$.deposit"),
        ({"deposit": 1.5}, "$.deposit"),
        ({"deposit": float("nan")}, "$.deposit"),
    ],
)
def test_a_bad_newcomer_changes_nothing(registry, change, path):
    body = {"id": "B", "key": KEY[2], "role": "region", "terminal": "T2", **change}
    before = dict(registry.parties)
    assert path in [where for where, _ in do(registry.join, body)]
    assert registry.parties == before


def test_a_deposit_covers_what_is_reserved_and_debts(registry):
    assert registry.reserve("A", "R1", 60)
    assert not registry.reserve("A", "R2", 41)
    assert registry.reserve("A", "R2", 40)
    assert registry.free_ucur("A") == 0
    assert registry.reserve("A", "R1", 10)  # in place of the 60
    assert not registry.reserve("A", "R1", 61)
    assert registry.parties["A"]["reserved"] == {"R1": 10, "R2": 40}
    registry.release("R2")
    registry.post("A", -30)
    assert registry.free_ucur("A") == 60
    registry.post("A", 80)
    assert registry.free_ucur("A") == 90  # what is owed to it is not yet its deposit


def test_money_goes_out_only_while_it_is_free(registry):
    assert registry.reserve("A", "R1", 60)
    assert do(registry.deposit, {"id": "A", "amount": -41})[0][0] == "$.amount"
    assert do(registry.deposit, {"id": "A", "amount": -40}) == []
    assert do(registry.deposit, {"id": "A", "amount": 10**12}) != []
    assert do(registry.deposit, {"id": "Z", "amount": 1}) == [("$.id", "'Z' is not a party")]
    assert registry.parties["A"]["deposit"] == 60


def test_who_leaves_has_nothing_open_and_stays_gone(registry):
    assert registry.reserve("A", "R1", 5)
    assert do(registry.leave, {}, "A", ["R2"]) == [("$", "'A' still has commitments in R1, R2")]
    registry.release("R1")
    assert do(registry.leave, {}, "A", ["R2"]) == [("$", "'A' still has commitments in R2")]
    registry.post("A", -1)
    assert "owes" in do(registry.leave, {}, "A", [])[0][1]
    registry.post("A", 1)
    assert do(registry.leave, {}, "A", []) == []
    assert registry.key_of("A") is None
    assert registry.at_terminal("T1") is None
    again = {"id": "A", "key": KEY[3], "role": "region", "terminal": "T1"}
    assert do(registry.join, again)[0][0] == "$.id"
    assert do(registry.join, {**again, "id": "B"}) == []


def test_a_balance_is_paid_towards_zero_and_never_past_it(registry):
    services = {}

    def paid(amount, name="A"):
        mistakes = []
        registry.payment(Node({"id": name, "amount": amount}, mistakes), services)
        return [(mistake.path, mistake.message) for mistake in mistakes]

    assert paid(1) == [("$.id", "'A' owes nothing and is owed nothing")]
    assert paid(1, "Z") == [("$.id", "'Z' is not a party")]
    registry.post("A", 30)
    for wrong in (-31, 0, 5):
        assert paid(wrong) == [("$.amount", "'A' is owed 30: from -30 to -1 can be paid out")]
    assert paid(-30) == []
    registry.post("A", -20)
    for wrong in (21, 0, -5):
        assert paid(wrong) == [("$.amount", "'A' owes 20: from 1 to 20 can be paid")]
    assert paid(15) == []
    assert paid(1.5)[0] == ("$.amount", "must be an integer, is 1.5")
    assert registry.parties["A"]["balance"] == -5
    assert services == {"payments": 15}
    assert registry.free_ucur("A") == 95


def test_a_key_is_rotated_once_and_an_old_one_never_returns(registry):
    assert do(registry.rotate, {"new_key": KEY[4]}, "A") == []
    assert registry.key_of("A") == KEY[4]
    assert do(registry.rotate, {"new_key": KEY[4]}, "A") != []
    assert do(registry.rotate, {"new_key": "x"}, "A") != []
    known = "this key is or was in use"
    assert do(registry.rotate, {"new_key": KEY[1]}, "A") == [("$.new_key", known)]
    again = Registry(registry.parties)
    stolen = {"id": "Z", "key": KEY[1], "role": "gateway"}
    assert do(again.join, stolen) == [("$.key", known)]
    assert do(again.join, {**stolen, "key": KEY[5]}) == []
    assert do(again.rotate, {"new_key": KEY[1]}, "Z") == [("$.new_key", known)]


def test_keys_do_not_pile_up_without_end(registry):
    for number in range(1000, 1256):
        assert do(registry.rotate, {"new_key": f"{number:064x}"}, "A") == []
    assert do(registry.rotate, {"new_key": f"{1256:064x}"}, "A") == [
        ("$", "'A' has had 256 keys before")
    ]
