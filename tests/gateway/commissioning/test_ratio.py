import pytest

from gateway.commissioning.ratio import name_ratio, near


@pytest.mark.parametrize(
    ("ratio", "code"),
    [
        (10, "scale-10"), (0.1, "scale-10"), (100, "scale-100"), (0.01, "scale-100"),
        (1000, "unit-kilo"), (0.001, "unit-kilo"), (5, "ct-secondary"), (0.2, "ct-secondary"),
        (1.73, "root-3"), (0.577, "root-3"), (3, "phases-3"), (40, "ct-ratio"), (0.025, "ct-ratio"),
    ],
)  # fmt: skip
def test_common_ratios_have_a_name(ratio, code):
    assert name_ratio(ratio).code == code


def test_one_and_the_unexplained_have_none():
    assert name_ratio(1.0) is None
    assert name_ratio(1.05) is None
    assert name_ratio(0.0) is None
    assert name_ratio(1.37) is None


def test_a_known_ct_setting_names_the_ct_that_is_there():
    assert "250 A CT and reads like one of 400 A" in name_ratio(0.625, ct_primary_a=250).meaning
    assert near(1.02, 1.0)
    assert not near(1.2, 1.0)
