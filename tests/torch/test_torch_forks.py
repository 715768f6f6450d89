"""Forks and signal handlers in the middle of accelerate(): nothing hangs, and torch's own methods come back."""

import os

import pytest
from forking import GENERATOR
from processes import python

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

BLOCKS = f"""{GENERATOR}
import contextvars
import torch
import fastkaiming.torch as init

def names():
    inherited = [vars(torch.Tensor).get(name) for name in ("normal_", "uniform_")]
    return [*inherited, torch.nn.init._no_grad_trunc_normal_]

def seeded():
    return torch.empty(50).normal_(generator=torch.Generator().manual_seed(1)).tolist()

def open_and_leave_a_block():
    with init.accelerate():
        pass

def fill_in_a_block():
    with init.accelerate():
        assert seeded() == ours
        open_and_leave_a_block()
        assert seeded() == ours
    take_and_copy()

def check_that_all_is_torchs():
    assert names() == original
    assert seeded() == theirs

def fill_in_and_outside_of_blocks():
    check_that_all_is_torchs()
    fill_in_a_block()
    check_that_all_is_torchs()

original, theirs = names(), seeded()
with init.accelerate():
    replaced, ours = names(), seeded()
assert not set(replaced) & set(original)
assert ours != theirs
"""


@pytest.mark.extended
def test_forks_while_threads_open_blocks() -> None:
    loads = "[open_and_leave_a_block] * 2 + [generator.take] * 2"
    result = python(f"{BLOCKS}\nfork_under_load({loads}, fill_in_and_outside_of_blocks, 300)")
    assert result.stdout == "300 0\n", result.stderr


@pytest.mark.extended
def test_forks_at_every_line_of_a_block() -> None:
    program = f"""{BLOCKS}
fork_at_every_line(open_and_leave_a_block, ["_accelerate.py"], fill_in_and_outside_of_blocks)
with init.accelerate():  # the child keeps this one, while the other thread opens and leaves another
    fork_at_every_line(open_and_leave_a_block, ["_accelerate.py"], fill_in_a_block)
check_that_all_is_torchs()
"""
    result = python(program)
    assert result.stdout == "True {}\n" * 2, result.stderr


def test_signal_handlers_at_every_line_of_a_block() -> None:
    program = f"""{BLOCKS}
signal.alarm(60)
lines = []

def handle(line):
    fill_in_a_block()
    lines.append(line)

call_at_every_line(open_and_leave_a_block, ["_accelerate.py"], handle)
check_that_all_is_torchs()
call_at_every_line(fill_in_and_outside_of_blocks, ["_accelerate.py"], handle)
with init.accelerate():
    call_at_every_line(fill_in_a_block, ["_accelerate.py"], handle)
    assert seeded() == ours
check_that_all_is_torchs()
print(len(lines) > 10)
"""
    result = python(program)
    assert result.stdout == "True\n", result.stderr


def test_signal_handlers_that_leave_a_block_open() -> None:
    program = f"""{BLOCKS}
signal.alarm(60)

def enter_a_block_at(number):
    # Have a handler enter a block at the line of this number, and return whether there are as many lines.
    def enter(line):
        nonlocal reached
        reached += 1
        if reached == number:
            block.__enter__()
            assert seeded() == ours

    reached, block = 0, init.accelerate()
    context = contextvars.copy_context()
    context.run(call_at_every_line, open_and_leave_a_block, ["_accelerate.py"], enter)
    if reached < number:
        return False
    assert names() == replaced
    block.__exit__(None, None, None)
    check_that_all_is_torchs()
    return True

number = 1
while enter_a_block_at(number):
    number += 1
print(number > 10)
"""
    result = python(program)
    assert result.stdout == "True\n", result.stderr


@pytest.mark.extended
def test_forks_by_signal_handlers_at_every_line_of_a_block() -> None:
    """The child goes on from the line at which the handler has forked it."""
    program = f"""{BLOCKS}
signal.alarm(60)
parent, children = os.getpid(), []

def fork(line):
    if os.getpid() == parent:
        child = os.fork()
        children.append(child)
        if child == 0:
            signal.alarm(60)
            fill_in_a_block()

try:
    call_at_every_line(fill_in_and_outside_of_blocks, ["_accelerate.py"], fork)
    check_that_all_is_torchs()
    fill_in_and_outside_of_blocks()
except BaseException:
    traceback.print_exc()
    os._exit(1)
if os.getpid() != parent:
    os._exit(0)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(len(statuses) > 10, set(statuses))
"""
    result = python(program)
    assert result.stdout == "True {0}\n", result.stderr


OTHERS_BLOCK = f"""{BLOCKS}
block, entered, leave, contexts, found = init.accelerate(), threading.Event(), threading.Event(), [], []

def hold_a_block_open():
    with block:
        contexts.append(contextvars.copy_context())
        entered.set()
        leave.wait()
        found.append(seeded() == ours)

def check_child_of_block():
    check_that_all_is_torchs()
    fill_in_and_outside_of_blocks()
    with init.accelerate():  # in a context in which the other thread's block is no longer open
        assert contexts[0].run(seeded) == theirs
    with block:  # which can be entered, because nobody is in it
        assert seeded() == ours
    check_that_all_is_torchs()

def leave_the_others_block():
    block.__exit__(None, None, None)
    check_that_all_is_torchs()
    fill_in_and_outside_of_blocks()

def leave_the_others_block_in_an_own_one():
    with init.accelerate():
        block.__exit__(None, None, None)
        assert seeded() == ours
    check_that_all_is_torchs()

thread = threading.Thread(target=hold_a_block_open, daemon=True)
thread.start()
entered.wait()
"""


def test_child_forked_while_another_thread_has_a_block_open() -> None:
    program = f"""{OTHERS_BLOCK}
for work in (check_child_of_block, leave_the_others_block, leave_the_others_block_in_an_own_one):
    print(in_child(work), names() == replaced)
leave.set()
thread.join()
check_that_all_is_torchs()
print(found)
"""
    result = python(program)
    assert result.stdout == "0 True\n" * 3 + "[True]\n", result.stderr


def test_child_forked_in_its_own_block() -> None:
    """The child leaves its block as the parent does; then no block is left, although another thread had one open."""
    program = f"""{OTHERS_BLOCK}
def check_inside():
    assert names() == replaced
    assert seeded() == ours
    fill_in_a_block()
    assert seeded() == ours

def leave_both():
    check_inside()
    inner.__exit__(None, None, None)
    check_inside()
    outer.__exit__(None, None, None)
    fill_in_and_outside_of_blocks()

outer, inner = init.accelerate(), init.accelerate()
with outer:
    with inner:
        print(in_child(leave_both))
        check_inside()
leave.set()
thread.join()
check_that_all_is_torchs()
"""
    result = python(program)
    assert result.stdout == "0\n", result.stderr


def test_child_forked_in_a_copy_of_the_context_of_a_block() -> None:
    """Threads of asyncio.to_thread run in such copies: the child stays in blocks that another thread has entered."""
    program = f"""{OTHERS_BLOCK}
def check_inside():
    assert seeded() == ours
    with init.accelerate():
        assert seeded() == ours
    assert seeded() == ours

def fork_in_the_context():
    statuses.append(in_child(check_inside))
    with init.accelerate():
        statuses.append(in_child(check_inside))

def leave_the_inner_block():
    inner.__exit__(None, None, None)
    check_inside()

def fork_in_an_inner_block():
    with inner:
        statuses.append(in_child(leave_the_inner_block))

statuses, inner = [], init.accelerate()
with init.accelerate():
    for fork in (fork_in_the_context, fork_in_an_inner_block):
        forking = threading.Thread(target=contextvars.copy_context().run, args=(fork,))
        forking.start()
        forking.join()
leave.set()
thread.join()
check_that_all_is_torchs()
print(statuses)
"""
    result = python(program)
    assert result.stdout == "[0, 0, 0]\n", result.stderr
