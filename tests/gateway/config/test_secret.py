"""A secret is read only where nobody else can read it, and is never repeated."""

import pytest

from gateway.config.problem import report_text
from gateway.config.secret import SECRET_BYTES_MAX, read_secret
from gateway.config.yaml_reader import ConfigFileError


def written(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_last_line_end_is_not_part_of_it(tmp_path):
    assert read_secret(written(tmp_path / "s", b"hunter2 \r\n")) == "hunter2 "


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"hunter2", 0o644, "others can read"),
        (b"hunter2", 0o660, "others can read"),
        (b" \n", 0o600, "empty"),
        (b"x" * (SECRET_BYTES_MAX + 1), 0o600, "far too long"),
        (b"hunter2\xff", 0o600, "not text"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(tmp_path, content, mode, words):
    path = written(tmp_path / "s", content, mode)
    with pytest.raises(ConfigFileError) as caught:
        read_secret(path)
    text = report_text(caught.value.problems)
    assert words in text
    assert "C048" in text
    assert "hunter2" not in text


def test_a_missing_secret_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigFileError) as caught:
        read_secret(tmp_path / "none")
    assert "chmod 600" in caught.value.problems[0].help


def test_a_credential_of_systemd_comes_before_the_folder_of_secrets(tmp_path, monkeypatch):
    from gateway.config.secret_shape import SecretShape
    from gateway.config.site_file import SECRETS, secret_path

    wanted = SecretShape(secret="mqtt_password")
    assert secret_path(wanted, tmp_path) == SECRETS / "mqtt_password"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secret_path(wanted, tmp_path) == SECRETS / "mqtt_password"
    written(tmp_path / "mqtt_password", b"x")
    assert secret_path(wanted, tmp_path) == tmp_path / "mqtt_password"
    assert secret_path(SecretShape(file="k"), tmp_path) == tmp_path / "k"


def test_a_whole_folder_handed_over_keeps_the_names_of_the_site_file(tmp_path, monkeypatch):
    from gateway.config.secret import credential

    assert credential("mqtt_password") is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential("mqtt_password") is None
    path = written(tmp_path / "secrets_mqtt_password", b"x")
    assert credential("mqtt_password") == path


def test_the_access_list_of_a_credential_is_no_fault_but_the_world_is(tmp_path, monkeypatch):
    path = written(tmp_path / "secrets_p", b"hunter2", 0o440)
    with pytest.raises(ConfigFileError):
        read_secret(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(path) == "hunter2"
    path.chmod(0o444)
    with pytest.raises(ConfigFileError):
        read_secret(path)
