"""Comparisons between processes, which are threads here."""

from collections.abc import Callable, Sequence
from threading import Barrier, Thread

import pytest

from fastkaiming._agreement import Agreement, Fact, Group
from fastkaiming.rng import Generator, Key, restored_on_error

HANG_SECONDS = 60
HINT = "pass the same integer"


class Exchange:
    """Lets the threads of a group exchange bytes, and counts how often they do."""

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.rounds = numbers, 0
        self._data: dict[int, bytes] = {}
        self._barrier = Barrier(len(numbers))

    def group(self, number: int) -> Group:
        """Return the group as a member sees it."""

        def gather(data: bytes) -> list[bytes]:
            self._data[number] = data
            if self._barrier.wait(HANG_SECONDS) == 0:
                self.rounds += 1
            gathered = [self._data[each] for each in self.numbers]
            self._barrier.wait(HANG_SECONDS)
            assert len({*map(len, gathered)}) == 1
            return gathered

        return Group(self.numbers, "rank", self.numbers, gather)


def run(exchanges: Sequence[Exchange], prepare: Callable[[int, Agreement], None]) -> list[str]:
    """Return the error of each process, or an empty string."""
    numbers = sorted({number for exchange in exchanges for number in exchange.numbers})
    errors = dict.fromkeys(numbers, "did not finish")

    def process(number: int) -> None:
        groups = [each.group(number) for each in exchanges if number in each.numbers]
        try:
            with Agreement(groups, HINT) as agreement:
                prepare(number, agreement)
        except Exception as error:
            errors[number] = f"{type(error).__name__}: {error}"
        else:
            errors[number] = ""

    threads = [Thread(target=process, args=(number,), daemon=True) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
    return [errors[number] for number in numbers]


def seed_of(special: int) -> Callable[[int, Agreement], None]:
    """Return a function that gives one process another seed."""

    def prepare(number: int, agreement: Agreement) -> None:
        agreement.key = Key(8 if number == special else 7)

    return prepare


def test_equal_processes_exchange_one_message() -> None:
    exchange = Exchange(0, 1, 2)
    assert run([exchange], seed_of(-1)) == ["", "", ""]
    assert exchange.rounds == 1


@pytest.mark.parametrize(
    ("special", "values"),
    [
        (2, "seed 7 on ranks 0, 1 and 3 and seed 8 on rank 2"),
        (0, "seed 7 on ranks 1, 2 and 3 and seed 8 on rank 0"),
    ],
)
def test_another_seed_is_an_error_in_all_processes(special: int, values: str) -> None:
    errors = run([Exchange(0, 1, 2, 3)], seed_of(special))
    assert {*errors} == {f"ValueError: every rank must use the same seed, got {values}: {HINT}"}


def test_another_stream_is_an_error() -> None:
    def prepare(number: int, agreement: Agreement) -> None:
        agreement.key = Key(7, number)

    assert "got seed 7 on rank 0 and seed 7, stream 1 on rank 1:" in run([Exchange(0, 1)], prepare)[0]


def test_long_lists_are_shortened() -> None:
    def prepare(number: int, agreement: Agreement) -> None:
        agreement.key = Key(max(number, 8))

    error, *others = run([Exchange(*range(16))], prepare)
    assert {*others} == {error}
    assert "got seed 8 on ranks 0, 1, 2, 3, 4 and 4 more, seed 9 on rank 9, " in error
    assert "seed 12 on rank 12 and 3 more values: " in error


def test_first_different_fact_is_quoted() -> None:
    lines = [f"fact {number}" for number in range(40)]

    def prepare(number: int, agreement: Agreement) -> None:
        own = [*lines[:30], "another fact" if number else lines[30], *lines[31:]]
        agreement.facts = [*map(Fact, own), Fact(f"fact of {number}", "another group")]

    expected = "got another fact on ranks 1 and 2 and fact 30 on rank 0"
    assert {*run([Exchange(0, 1, 2)], prepare)} == {
        f"ValueError: every rank must have the same arguments and tensors, {expected}"
    }


def test_missing_and_long_facts() -> None:
    def prepare(number: int, agreement: Agreement) -> None:
        agreement.facts = [Fact("x"), Fact("ä" * 2000)][: 1 + number]

    error, other = run([Exchange(0, 1)], prepare)
    assert error == other
    assert error.endswith(f"got nothing on rank 0 and {500 * 'ä'} on rank 1")


def test_error_of_one_process_is_an_error_in_all() -> None:
    def prepare(number: int, agreement: Agreement) -> None:
        agreement.key = Key(number)
        if number == 1:
            raise KeyError("no such rule")

    first, second, third = run([Exchange(0, 1, 2)], prepare)
    assert second == "KeyError: 'no such rule'"
    assert (
        first == third == "ValueError: the call must succeed on every rank, got an error on rank 1: "
        "KeyError: 'no such rule'"
    )


@pytest.mark.parametrize("special", range(9))
def test_error_reaches_all_processes_of_a_grid(special: int) -> None:
    rows = [Exchange(*range(first, first + 3)) for first in (0, 3, 6)]
    columns = [Exchange(*range(first, 9, 3)) for first in (0, 1, 2)]
    exchanges = sorted([*rows, *columns], key=lambda exchange: exchange.numbers)
    errors = run(exchanges, seed_of(special))
    assert all("seed 8 on rank" in error for error in errors), errors


def test_only_processes_that_share_a_group_with_it_need_a_second_round() -> None:
    inner, outer, separate = Exchange(0, 1), Exchange(0, 1, 2, 3), Exchange(4, 5)
    assert run([inner, outer, separate], seed_of(-1)) == [""] * 6
    assert (inner.rounds, outer.rounds, separate.rounds) == (2, 2, 1)


def test_interrupted_process_does_not_communicate() -> None:
    exchange = Exchange(0, 1)
    with pytest.raises(KeyboardInterrupt), Agreement([exchange.group(0)], HINT):
        raise KeyboardInterrupt
    assert exchange.rounds == 0


def test_state_of_a_generator_is_restored_on_error() -> None:
    generator = Generator(7)
    generator.next_key()
    with pytest.raises(ValueError, match="got -8"), restored_on_error(generator):
        Key(generator.next_key().stream - 10)
    with restored_on_error(generator):
        assert generator.next_key() == Key(7, 2)
    assert generator.next_key() == Key(7, 3)
