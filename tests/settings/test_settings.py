"""Settings: what an operator types is what the server runs with, and a typo is named."""

import os
import stat
from pathlib import Path

import pytest

from ecotone.settings import Settings, options, strangers
from ecotone.vocabulary import Invalid


def test_environment_is_read_and_arguments_win(tmp_path: Path) -> None:
    environ = {"ECOTONE_DATA": str(tmp_path), "ECOTONE_PORT": "8080", "ECOTONE_ANONYMOUS_READ": "no"}
    settings = Settings.from_environment(environ, port=9090)
    assert (settings.data, settings.port, settings.anonymous_may_read) == (tmp_path, 9090, False)


@pytest.mark.parametrize(("name", "value"), [("ECOTONE_PORT", "http"), ("ECOTONE_ANONYMOUS_READ", "maybe")])
def test_a_wrong_value_names_variable_value_and_expectation(name: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"{name} is '{value}', but .* is expected"):
        Settings.from_environment({name: value})


def test_a_misspelt_setting_is_told_and_not_passed_over_in_silence() -> None:
    """ECOTONE_WEBHOOK_ALOW or ECOTONE_RATE_LIMITS would leave a server open that its operator takes for closed."""
    given = {"ECOTONE_RATE_LIMITS": "9", "ECOTONE_FOO": "", "ECOTONE_PORT": "1", "ECOTONE_URL": "", "PORT": "1"}
    assert strangers(given | {"ECOTONE_X_API_KEY": "secret"}) == [
        "ECOTONE_FOO is no setting and has no effect.",
        "ECOTONE_RATE_LIMITS is no setting and has no effect; is ECOTONE_RATE_LIMIT meant?",
    ]


def test_reading_without_account_only_on_loopback(tmp_path: Path) -> None:
    assert Settings(data=tmp_path).anonymous_may_read
    assert not Settings(data=tmp_path, host="0.0.0.0").anonymous_may_read
    assert Settings(data=tmp_path, host="0.0.0.0", anonymous_read=True).anonymous_may_read


def test_base_url_is_what_clients_can_reach(tmp_path: Path) -> None:
    assert Settings(data=tmp_path, host="0.0.0.0").base_url == "http://127.0.0.1:7070"
    assert Settings(data=tmp_path, host="::1").base_url == "http://[::1]:7070"
    assert Settings(data=tmp_path, public_url="https://hub.example.org/x/").base_url == "https://hub.example.org/x"


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    first = settings.secret("session")
    assert first == Settings(data=tmp_path).secret("session")
    assert len(first) == 32
    mode = stat.S_IMODE(os.stat(tmp_path / "secrets" / "session").st_mode)
    assert mode == 0o600
    assert sorted(p.name for p in (tmp_path / "secrets").iterdir()) == ["session"]


def test_every_option_has_a_meaning() -> None:
    assert all(option.doc and option.variable.startswith("ECOTONE_") for option in options())


def test_secrets_among_the_settings_are_shown_nowhere() -> None:
    """A setting's object gets into tracebacks and logs of errors."""
    secret = "do-not-show-this-" * 2
    held = {
        "database_url": f"postgresql://ecotone:{secret}@db/ecotone",
        "admin_token": f"ect_{secret}",
        "upstream_proxy": f"http://u:{secret}@proxy:3128",
        "snapshot_secret": secret,
        "limits_url": f"redis://:{secret}@redis:6379/0",
    }
    assert secret not in repr(Settings(**held))
