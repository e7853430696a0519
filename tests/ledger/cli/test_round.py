"""Seals made by ``round commit``: none is lost, and each can be opened."""

import json

import pytest
from click.testing import CliRunner

from ledger.cli import sopledger
from ledger.contracts.rounds import commitment
from ledger.log.keys import create_key

NOBODY = "http://127.0.0.1:9"


def run(*arguments):
    result = CliRunner().invoke(sopledger, [*map(str, arguments), "--json"], standalone_mode=False)
    assert result.exception is None, result.output
    document = json.loads(result.stdout)
    return document["exit_code"], document


@pytest.fixture
def desk(tmp_path):
    """A region's folder with its key and an offer list."""
    create_key(tmp_path / "a.key", "region-a")
    (tmp_path / "offers.json").write_text('{"0": 0, "1": 5}')
    return tmp_path


def by(desk, party="region-a"):
    return ["--party", party, "--key", desk / "a.key"]


def aside(desk, round_id, *more, seq=1, party="region-a"):
    """Seal without a node; give the exit code, the answer and the signed message."""
    out = desk / f"{round_id}-{seq}.msg"
    code, answer = run(
        "round", "commit", round_id, desk / "offers.json", *by(desk, party),
        "--out", f"{out},m,{seq}", *more,
    )  # fmt: skip
    return code, answer, json.loads(out.read_text()) if out.exists() else None


def opens(sealed, message):
    """Tell whether a file opens what a message seals."""
    found = json.loads(sealed.read_text())
    names = {"party": message["party"], "round": message["body"]["round"]}
    seal = commitment(found["salt"], found["offers"], party=names["party"], round_id=names["round"])
    return seal == message["body"]["hash"] and {k: found[k] for k in names} == names


def test_a_message_written_aside_leaves_the_seal_that_stands_and_names_its_own(desk):
    """Nobody has sent it yet: till then the market knows the seal of before."""
    seals = {}
    for seq in (1, 2):
        code, answer, message = aside(desk, "R1", seq=seq)
        assert code == 0
        seals[seq] = desk / answer["data"]["sealed"], message
    (first, one), (second, two) = seals.values()
    assert first != second
    assert opens(first, one)
    assert opens(second, two)
    assert first.stat().st_mode & 0o777 == 0o600
    out = f"{desk}/reveal.msg,m,3"
    assert run("round", "reveal", "R1", first, *by(desk), "--out", out)[0] == 0
    body = json.loads((desk / "reveal.msg").read_text())["body"]
    assert set(body) == {"kind", "round", "salt", "offers"}


@pytest.mark.parametrize(
    ("round_id", "party"), [("R2", "region-a"), ("R1", "region-b"), ("R2", "region-b")]
)
def test_a_seal_of_another_round_or_party_is_not_overwritten(desk, round_id, party):
    _, answer, _ = aside(desk, "R1")
    taken = desk / answer["data"]["sealed"]
    before = taken.read_text()
    code, answer, message = aside(desk, round_id, "--sealed", taken, seq=9, party=party)
    assert (code, message) == (3, None)
    assert f"is not the seal of {party} in {round_id}" in answer["errors"][0]["message"]
    assert taken.read_text() == before
    code, _, _ = aside(desk, "R1", "--sealed", desk / "offers.json", seq=9)
    assert code == 3
    assert json.loads((desk / "offers.json").read_text()) == {"0": 0, "1": 5}


def test_seals_of_one_offer_list_go_to_a_file_for_each_round(desk):
    names = [aside(desk, name, seq=n)[1]["data"]["sealed"] for n, name in enumerate(("R1", "R2"))]
    assert [desk.joinpath(name).name.rpartition(".")[0] for name in names] == [
        "offers.R1.sealed",
        "offers.R2.sealed",
    ]


@pytest.mark.parametrize(("round_id", "party"), [("R2", "region-a"), ("R1", "region-b")])
def test_what_was_sealed_is_opened_only_where_it_was_sealed(desk, round_id, party):
    """Opened elsewhere, the market refuses it and everybody has read the offers."""
    _, answer, _ = aside(desk, "R1")
    out = f"{desk}/reveal.msg,m,3"
    sealed = desk / answer["data"]["sealed"]
    code, answer = run("round", "reveal", round_id, sealed, *by(desk, party), "--out", out)
    assert code == 3
    assert answer["errors"][0]["message"] == f"{sealed} is the seal of region-a in R1"
    assert not (desk / "reveal.msg").exists()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('{"1": "70", "x": 3}', [
            "$.1: must be an integer, is the text '70'",
            "$.x: the level 'x' is not an integer from -1000 to 1000",
        ]),
        ('{"1": 5, "1": 6}', ["$: has the key '1' twice"]),
        ('{"0": 7}', ["$.0: level 0 is worth 0 by definition"]),
        ("[]", ["$: must be an object, is a list"]),
        ('{"1": 1.5}', ["$.1: must be an integer, is 1.5"]),
    ],
)  # fmt: skip
def test_offers_that_could_not_be_opened_are_not_sealed(desk, text, messages):
    (desk / "offers.json").write_text(text)
    code, answer, message = aside(desk, "R1")
    assert (code, message) == (3, None)
    assert [error["message"] for error in answer["errors"]] == messages
    assert list(desk.glob("*sealed*")) == []


def test_a_round_that_can_not_be_called_so_is_no_file_either(desk):
    code, answer = run(
        "round", "commit", "../R1", desk / "offers.json", *by(desk), "--node", NOBODY
    )
    assert code == 3
    assert answer["errors"][0]["message"].startswith("$.round: may have only letters")
