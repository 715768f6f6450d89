"""Forks and signal handlers within Generator.take(): no deadlock occurs, and no stream is returned twice."""

import os

import pytest
from forking import GENERATOR
from processes import python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_forks_while_threads_take_streams() -> None:
    result = python(f"{GENERATOR}\nfork_under_load([take_and_copy] * 2, take_and_copy, 300)")
    assert result.stdout == "300 0\n", result.stderr


def test_forks_at_every_line_of_take() -> None:
    result = python(f'{GENERATOR}\nfork_at_every_line(take_and_copy, ["rng.py"], take_and_copy)')
    assert result.stdout == "True {}\n", result.stderr


def test_signal_handlers_at_every_line_of_take() -> None:
    program = f"""{GENERATOR}
signal.alarm(60)
streams = []

def take(line=None):
    streams.append(generator.take().stream)

call_at_every_line(take, ["rng.py"], take)
print(len(streams) > 1, sorted(streams) == list(range(1, len(streams) + 1)))
call_at_every_line(take_and_copy, ["rng.py"], take)
print(len(streams) == len(set(streams)))
"""
    result = python(program)
    assert result.stdout == "True True\nTrue\n", result.stderr
