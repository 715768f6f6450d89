"""Commands of the command line that tests run in their own process."""

import json
from typing import Any

import pytest

from fastkaiming import cli


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with --json, and return the JSON object, which must be the only output."""
    assert cli.main([*map(str, arguments), "--json"]) == code
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def run_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that fails with exit code 2, and return its error message, which must have one line."""
    assert cli.main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"fastkaiming {arguments[0]}: ")
    assert captured.err.count("\n") == 1
    return captured.err
