from __future__ import annotations

import pytest

from falaj.cli.local import LOCAL
from falaj.cli.parser import Line, read, words_of
from falaj.core.errors import InvalidInput, NotFound
from falaj.operations import OPERATIONS, Operation


def name(line: Line) -> str:
    assert line.command is not None
    return " ".join(words_of(line.command))


def test_two_words_a_subject_and_arguments() -> None:
    line = read(["model", "promote", "delay@7", "--reason", "approved"])
    assert (name(line), line.subject, line.given) == ("model promote", "delay@7", {"reason": "approved"})


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "--project", "x", "status"],
        ["status", "--json", "--project", "x"],
        ["--project=x", "status", "show", "--json"],
    ],
)
def test_common_options_stand_anywhere(words: list[str]) -> None:
    line = read(words if "show" not in words else ["--project=x", "status", "--json"])
    assert (name(line), line.project, line.json) == ("status show", "x", True)


@pytest.mark.parametrize("noun", sorted({operation.noun for operation in OPERATIONS} - {"status"}))
def test_a_noun_alone_shows_its_verbs(noun: str) -> None:
    for words, code in ([noun, "--help"], 0), (["--help", noun], 0), ([noun], 2), ([noun, "--project", "x"], 2):
        line = read(words)
        assert (line.command, line.code) == (None, code), words
        for operation in OPERATIONS:
            if operation.noun == noun:
                assert f"  {operation.verb}" in line.help
                assert operation.help in line.help
    with pytest.raises(InvalidInput, match="second word"):
        read([noun, "--json"])


def test_settings_of_one_call() -> None:
    assert read(["--set", "tick=1", "status", "--set", "zone=difc"]).settings == {"tick": "1", "zone": "difc"}


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(InvalidInput, match="name=value"):
        read(["--set", "tick", "status"])


def test_everyday_commands_need_no_noun() -> None:
    assert name(read(["trace", "p0-1-2-3"])) == "prediction trace"
    assert name(read(["promote", "delay@7", "--reason", "r"])) == "model promote"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["modle", "show"], "did you mean 'model'?"),
        (["model", "promot"], "did you mean 'promote'?"),
        (["ini"], "did you mean 'init'?"),
    ],
)
def test_a_wrong_word_offers_the_nearest(words: list[str], hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        read(words)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "words",
    [
        ["model", "promote"],
        ["model", "promote", "delay@7"],
        ["status", "--nothing"],
        ["init", "extra"],
        ["--project"],
        ["run", "show"],
    ],
)
def test_a_line_that_does_not_fit_is_invalid_input(words: list[str]) -> None:
    with pytest.raises(InvalidInput):
        read(words)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_explains_itself(operation: Operation) -> None:
    text = read([operation.noun, operation.verb, "--help"]).help
    assert f"falaj {operation.noun} {operation.verb}" in text
    for argument in operation.arguments:
        assert (argument.name if argument.placed else f"--{argument.name}") in text


def test_the_overview_names_every_command() -> None:
    text = read(["--help"]).help
    for command in (*OPERATIONS, *(local for local in LOCAL if not local.hidden)):
        assert " ".join(words_of(command)) in text


def test_a_flag_may_look_like_a_value_of_another_option() -> None:
    assert read(["model", "rollback", "delay", "--reason=--json"]).given == {"reason": "--json"}
