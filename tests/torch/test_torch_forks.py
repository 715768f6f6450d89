"""Forks and signal handlers within accelerate() cause no deadlock, and torch's own methods are restored."""

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

files = ["_accelerate.py", "_blocks.py", "_replacements.py"]

def current_methods():
    inherited = [vars(torch.Tensor).get(name) for name in ("normal_", "uniform_")]
    return [*inherited, torch.nn.init._no_grad_trunc_normal_]

def seeded():
    return torch.empty(50).normal_(generator=torch.Generator().manual_seed(1)).tolist()

def open_and_leave_a_block():
    with init.accelerate():
        pass

def fill_in_a_block():
    with init.accelerate():
        assert seeded() == block_values
        open_and_leave_a_block()
        assert seeded() == block_values
    take_and_copy()

def check_that_torch_is_restored():
    assert current_methods() == original
    assert seeded() == torch_values

def fill_in_and_outside_of_blocks():
    check_that_torch_is_restored()
    fill_in_a_block()
    check_that_torch_is_restored()

original, torch_values = current_methods(), seeded()
with init.accelerate():
    replaced, block_values = current_methods(), seeded()
assert not set(replaced) & set(original)
assert block_values != torch_values
"""


@pytest.mark.extended
def test_fork_is_safe_while_threads_open_blocks() -> None:
    loads = "[open_and_leave_a_block] * 2 + [generator.next_key] * 2"
    result = python(f"{BLOCKS}\nfork_under_load({loads}, fill_in_and_outside_of_blocks, 300)")
    assert result.stdout == "300 0\n", result.stderr


@pytest.mark.extended
def test_fork_is_safe_at_every_line_of_another_thread() -> None:
    program = f"""{BLOCKS}
fork_at_every_line(open_and_leave_a_block, files, fill_in_and_outside_of_blocks)
with init.accelerate():  # the child keeps this block while another thread opens and leaves its own
    fork_at_every_line(open_and_leave_a_block, files, fill_in_a_block)
check_that_torch_is_restored()
"""
    result = python(program)
    assert result.stdout == "True {}\n" * 2, result.stderr


def test_signal_handler_can_use_blocks_at_every_line() -> None:
    program = f"""{BLOCKS}
signal.alarm(60)
lines = []

def handle(line):
    fill_in_a_block()
    lines.append(line)

call_at_every_line(open_and_leave_a_block, files, handle)
check_that_torch_is_restored()
call_at_every_line(fill_in_and_outside_of_blocks, files, handle)
with init.accelerate():
    call_at_every_line(fill_in_a_block, files, handle)
    assert seeded() == block_values
check_that_torch_is_restored()
print(len(lines) > 10)
"""
    result = python(program)
    assert result.stdout == "True\n", result.stderr


def test_signal_handler_can_leave_a_block_open() -> None:
    program = f"""{BLOCKS}
signal.alarm(60)

def enter_a_block_at(number):
    # Enter a block in a signal handler at the line of this number; return False if there are fewer lines.
    def enter(line):
        nonlocal reached
        reached += 1
        if reached == number:
            block.__enter__()
            assert seeded() == block_values

    reached, block = 0, init.accelerate()
    context = contextvars.copy_context()
    context.run(call_at_every_line, open_and_leave_a_block, files, enter)
    if reached < number:
        return False
    assert current_methods() == replaced
    assert context.run(seeded) == block_values
    context.run(block.__exit__, None, None, None)
    check_that_torch_is_restored()
    return True

number = 1
while enter_a_block_at(number):
    number += 1
print(number > 10)
"""
    result = python(program)
    assert result.stdout == "True\n", result.stderr


@pytest.mark.extended
def test_signal_handler_can_fork_at_every_line() -> None:
    """The child continues from the line at which the signal handler forked it."""
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
    call_at_every_line(fill_in_and_outside_of_blocks, files, fork)
    check_that_torch_is_restored()
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


BLOCK_OF_ANOTHER_THREAD = f"""{BLOCKS}
block, entered, leave, contexts, found = init.accelerate(), threading.Event(), threading.Event(), [], []

def hold_a_block_open():
    with block:
        contexts.append(contextvars.copy_context())
        entered.set()
        leave.wait()
        found.append(seeded() == block_values)

def check_child_of_block():
    check_that_torch_is_restored()
    fill_in_and_outside_of_blocks()
    with init.accelerate():  # in a context in which the other thread's block is no longer open
        assert contexts[0].run(seeded) == torch_values
    with block:  # it can be entered, because no thread of the child is in it
        assert seeded() == block_values
    check_that_torch_is_restored()

def leave_the_other_block():
    block.__exit__(None, None, None)
    check_that_torch_is_restored()
    fill_in_and_outside_of_blocks()

def leave_the_other_block_within_a_block():
    with init.accelerate():
        block.__exit__(None, None, None)
        assert seeded() == block_values
    check_that_torch_is_restored()

thread = threading.Thread(target=hold_a_block_open, daemon=True)
thread.start()
entered.wait()
"""


def test_child_drops_the_block_of_another_thread() -> None:
    program = f"""{BLOCK_OF_ANOTHER_THREAD}
for work in (check_child_of_block, leave_the_other_block, leave_the_other_block_within_a_block):
    print(in_child(work), current_methods() == replaced)
leave.set()
thread.join()
check_that_torch_is_restored()
print(found)
"""
    result = python(program)
    assert result.stdout == "0 True\n" * 3 + "[True]\n", result.stderr


def test_child_keeps_the_blocks_of_the_forking_thread() -> None:
    """Once the child has left them, no block is open, although another thread of the parent has one open."""
    program = f"""{BLOCK_OF_ANOTHER_THREAD}
def check_inside():
    assert current_methods() == replaced
    assert seeded() == block_values
    fill_in_a_block()
    assert seeded() == block_values

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
check_that_torch_is_restored()
"""
    result = python(program)
    assert result.stdout == "0\n", result.stderr


def test_child_keeps_the_blocks_of_a_copied_context() -> None:
    """Threads of asyncio.to_thread run in such copies, within blocks that another thread has entered."""
    program = f"""{BLOCK_OF_ANOTHER_THREAD}
def check_inside():
    assert seeded() == block_values
    with init.accelerate():
        assert seeded() == block_values
    assert seeded() == block_values

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
check_that_torch_is_restored()
print(statuses)
"""
    result = python(program)
    assert result.stdout == "[0, 0, 0]\n", result.stderr
