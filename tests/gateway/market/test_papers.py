"""What the market's connections make of certificate files, also in the middle of a renewal."""

import logging

import pytest
from fakes.certificates import Authority

from gateway.market.papers import Papers
from gateway.model.errors import ConfigError


def test_papers_renewed_in_place_count_and_half_written_ones_do_not(tmp_path, caplog):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("gateway")
    papers = Papers(ca_file=authority.path, certificate=certificate, key_file=key)
    first = papers.context()
    authority.issue("gateway")
    second = papers.renewed(first)
    assert second is not None
    assert second is not first
    key.write_text("half of a k")
    with caplog.at_level(logging.WARNING):
        assert papers.renewed(second) is second
    assert "certificates not read again" in caplog.text


def test_files_that_do_not_fit_are_named(tmp_path):
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("a")
    _, key = authority.issue("b")
    with pytest.raises(ConfigError, match=r"a\.pem.*b\.key"):
        Papers(certificate=certificate, key_file=key).context()
