import pytest

from gateway.market.fields import IDENTIFIER, PARTY
from ledger.contracts.document import DocumentRefused, Node, canonical, digest, parse


def read(data, reader):
    mistakes = []
    node = Node(parse(data), mistakes)
    value = reader(node)
    return value, [(m.path, m.message) for m in mistakes]


def test_canonical_sorts_keys_and_leaves_no_spaces():
    assert canonical({"b": [1, 2], "a": None}) == b'{"a":null,"b":[1,2]}'
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":1}x', b"[" * 100_000])
def test_what_is_not_json_is_refused_in_one_way(data):
    with pytest.raises(DocumentRefused) as refused:
        parse(data)
    assert refused.value.mistakes[0].path == "$"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a":1.5}', "must be an integer, is 1.5"),
        (b'{"a":1.0}', "must be an integer, is 1.0"),
        (b'{"a":NaN}', "must be an integer, is NaN"),
        (b'{"a":-Infinity}', "must be an integer, is -Infinity"),
        (b'{"a":true}', "must be an integer, is true"),
        (b'{"a":"7"}', "must be an integer, is the text '7'"),
        (b'{"a":null}', "must be an integer, is null"),
        (b"{}", "must be an integer, is null"),
        (b'{"a":99999999999999999999}', "must be from 0 to 9, is too large"),
        (b'{"a":10}', "must be from 0 to 9, is 10"),
    ],
)
def test_an_integer_is_an_integer(data, message):
    value, mistakes = read(data, lambda node: node.at("a").integer(low=0, high=9))
    assert value == 0
    assert mistakes == [("$.a", message)]


def test_unknown_missing_and_doubled_keys_are_named():
    _, mistakes = read(b'{"a":1,"a":2,"z":3}', lambda node: node.fields(required={"a", "b"}))
    assert mistakes == [
        ("$", "lacks 'b'"),
        ("$", "has the unknown key 'z'"),
        ("$", "has the key 'a' twice"),
    ]


def test_lists_say_the_place_inside():
    _, mistakes = read(b'{"a":[1,"x",3]}', lambda n: n.at("a").integers(count=3, low=0, high=2))
    assert mistakes == [
        ("$.a[1]", "must be an integer, is the text 'x'"),
        ("$.a[2]", "must be from 0 to 2, is 3"),
    ]


def test_words_texts_and_flags():
    _, mistakes = read(
        b'{"w":"x","t":"","f":1,"l":{}}',
        lambda n: (n.at("w").choice("a", "b"), n.at("t").text(), n.at("f").flag(), n.at("l").items()),
    )  # fmt: skip
    assert [path for path, _ in mistakes] == ["$.w", "$.t", "$.f", "$.l"]


def test_a_name_is_no_longer_than_the_gateway_takes():
    """Else a round is opened, cleared and paid for that no gateway reads."""
    for length, mistakes in ((60, []), (61, [("$", "must have 1 to 60 printable characters")])):
        name = "x" * length
        assert bool(IDENTIFIER.fullmatch(name)) is bool(PARTY.fullmatch(name)) is (not mistakes)
        assert read(b'"' + name.encode() + b'"', lambda node: node.name()) == (name, mistakes)


def test_what_a_text_may_hold_does_not_depend_on_pythons_unicode():
    """Nodes under two releases of Python must judge every message alike."""

    def refused(character):
        mistakes = []
        Node(f"a{character}b", mistakes).text()
        return bool(mistakes)

    for character in "\x00\n\x7f\x85\xa0\xad\u200b\u202e\u2028\u3000\ud800\ue000\ufeff\U000e0001":
        assert refused(character)
    for character in " ~é中\u0378\U0001f9ff\U0001fae9":  # the last two but one are new or nobody's
        assert not refused(character)
    python_knows = sum(chr(c).isprintable() and refused(chr(c)) for c in range(0x30000))
    assert python_knows < 10
