"""Programs that fork, or run a signal handler, at any point of a function; the tests of forks share them.

A forked child has one thread, and every lock that another thread held at the time of the fork stays locked in it. A
signal handler that needs a lock which the interrupted code holds would wait for itself. The tests run these programs in
processes of their own, because a program would hang where its test fails; a child that hangs is killed by its alarm.
"""

FORKS = """
import os, signal, sys, threading, time, traceback, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12, forking a process with threads issues one
last_second = time.monotonic() + 60

def in_child(work):
    # Run a function in a forked child, and return the child's exit status: 0 if the function has returned.
    child = os.fork()
    if child == 0:
        signal.alarm(max(1, int(last_second - time.monotonic())))
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fork_under_load(loads, work, times):
    # Fork many children while other threads call the loads without a pause, and stop at the first that fails.
    def repeat(load):
        while not over.is_set():
            load()

    sys.setswitchinterval(1e-4)  # so that the other threads are in many different places when the process forks
    over = threading.Event()
    threads = [threading.Thread(target=repeat, args=(load,)) for load in loads]
    for thread in threads:
        thread.start()
    statuses = []
    while len(statuses) < times and not any(statuses):
        statuses.append(in_child(work))
    over.set()
    for thread in threads:
        thread.join()
    print(len(statuses), statuses[-1])

def call_at_every_line(function, files, action):
    # Call a function, and call the action before every line of the given files that it executes.
    def trace(frame, event, argument):
        if os.path.basename(frame.f_code.co_filename) not in files:
            return None
        if event == "line":
            action(frame.f_lineno)  # not traced itself
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)

def fork_at_every_line(function, files, work):
    # Fork a child whenever another thread that calls the function has come to the next line of the given files.
    def pause(line):
        reached.append(line)
        paused.release()
        resumed.acquire()

    def run():
        call_at_every_line(function, files, pause)
        reached.append(None)
        paused.release()

    reached, paused, resumed = [], threading.Semaphore(0), threading.Semaphore(0)
    thread = threading.Thread(target=run)
    thread.start()
    failed = {}
    while True:
        paused.acquire()
        if reached[-1] is None:
            break
        if not failed:
            status = in_child(work)
            if status:
                failed[reached[-1]] = status
        resumed.release()
    thread.join()
    print(len(reached) > 1, failed)
"""

GENERATOR = f"""{FORKS}
import copy
import fastkaiming as fk

generator = fk.Generator(7)

def take_and_copy():
    key = generator.next_key()
    assert key.seed == 7
    assert copy.copy(generator).next_key().stream > key.stream
"""
