"""Forks and signal handlers within Generator.next_key(): no deadlock occurs, and no stream is returned twice."""

import os

import pytest
from forking import GENERATOR
from processes import python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_forks_while_threads_take_streams() -> None:
    result = python(f"{GENERATOR}\nfork_under_load([take_and_copy] * 2, take_and_copy, 300)")
    assert result.stdout == "300 0\n", result.stderr


def test_forks_at_every_line_of_next_key() -> None:
    result = python(f'{GENERATOR}\nfork_at_every_line(take_and_copy, ["rng.py"], take_and_copy)')
    assert result.stdout == "True {}\n", result.stderr


def test_signal_handlers_at_every_line_of_next_key() -> None:
    program = f"""{GENERATOR}
signal.alarm(60)
streams = []

def append_stream(line=None):
    streams.append(generator.next_key().stream)

call_at_every_line(append_stream, ["rng.py"], append_stream)
print(len(streams) > 1, sorted(streams) == list(range(1, len(streams) + 1)))
call_at_every_line(take_and_copy, ["rng.py"], append_stream)
print(len(streams) == len(set(streams)))
"""
    result = python(program)
    assert result.stdout == "True True\nTrue\n", result.stderr
