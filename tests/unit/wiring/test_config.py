"""Settings say where each value comes from, and refuse what they do not know."""

from pathlib import Path

import pytest

from falaj.config import load
from falaj.core.errors import InvalidInput, NotFound


def write(folder: Path, text: str) -> Path:
    (folder / "falaj.toml").write_text(text)
    return folder


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    write(tmp_path, 'api_port = 1\nzone = "file"\n')
    settings = load(tmp_path, {"api_port": "3"}, {"FALAJ_API_PORT": "2", "FALAJ_NAME": "env"})
    assert (settings.api_port, settings.values["api_port"].origin) == (3, "flag")
    assert (settings.name, settings.values["name"].origin) == ("env", "environment FALAJ_NAME")
    assert (settings.zone, settings.values["zone"].origin) == ("file", str(tmp_path / "falaj.toml"))
    assert (settings.clock, settings.values["clock"].origin) == ("wall", "default")


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="api_prot") as caught:
        load(write(tmp_path, "api_prot = 1"), None, {})
    assert "'api_port'" in caught.value.hint


def test_an_unknown_variable_of_the_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="FALAJ_CLOK"):
        load(tmp_path, None, {"FALAJ_CLOK": "replay"})


@pytest.mark.parametrize(
    "text", ['api_port = "many"', "api_port = true", "api_port = 1.5", 'clock = "sundial"', "name = 7", "name = ", "\x00"]
)
def test_a_value_of_the_wrong_kind_is_refused_and_says_where_it_stands(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"falaj\.toml"):
        load(write(tmp_path, text), None, {})


def test_keys_and_project_in_the_environment_are_not_settings(tmp_path: Path) -> None:
    assert load(tmp_path, None, {"FALAJ_API_KEY": "x", "FALAJ_PROJECT": "y"}).api_port == 7700
