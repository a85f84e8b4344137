"""What the loop leaves behind out of band: its progress, and who was in its step."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lepton_engine.process.progress import MAX_REQUESTS, InFlight, Progress, StallClock
from lepton_engine.process.quarantine import MOST, REMEMBER_SECONDS, Quarantine

A, B = b"a" * 16, b"b" * 16


def test_what_one_process_writes_another_reads_after_its_death(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress", create=True)
    assert (progress.turns, progress.loaded, progress.in_flight()) == (0, False, [])
    code = f"""
import os, signal
from pathlib import Path
from lepton_engine.process.progress import Progress
progress = Progress(Path({str(tmp_path / "progress")!r}))
progress.mark_loaded()
progress.turn()
progress.turn()
progress.record([({A!r}, 3), ({B!r}, 0)])
progress.again()
progress.again()
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert (progress.turns, progress.loaded) == (2, True)
    assert progress.in_flight() == [InFlight(A, 5), InFlight(B, 2)]
    progress.clear()
    assert progress.in_flight() == []
    progress.close()


def test_more_requests_than_there_is_room_for_are_left_out(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress", create=True)
    progress.record([(os.urandom(16), i) for i in range(MAX_REQUESTS + 5)])
    assert [request.num_generated for request in progress.in_flight()] == list(range(MAX_REQUESTS))
    progress.close()


def test_a_counter_that_stands_still_is_measured_in_time_awake() -> None:
    clock = StallClock(interval=1.0)
    assert clock.look(7, 100.0) == 0.0
    assert clock.look(7, 101.0) == pytest.approx(1.0)
    assert clock.look(7, 102.5) == pytest.approx(2.5)
    assert clock.look(7, 1000.0) == pytest.approx(4.5), "this process was stopped: it counts for two intervals"
    assert clock.look(8, 1001.0) == 0.0
    assert clock.look(8, 1002.0) == pytest.approx(1.0)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("code", [-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, 1])
def test_a_crash_makes_suspects_and_one_alone_twice_a_convict(code: int) -> None:
    held = Quarantine(Clock())
    held.note_end(code, False, [InFlight(A, 4), InFlight(B, 1)])
    assert (held.suspects(), held.convicts()) == ([(A, 4), (B, 1)], [])
    held.note_end(code, False, [InFlight(A, 4)])
    assert held.convicts() == [A]
    held.note_end(code, False, [InFlight(b"c" * 16, 0)])
    assert held.convicts() == [A], "once may be chance"


def test_a_kill_from_outside_makes_none_unless_the_step_hung() -> None:
    held = Quarantine(Clock())
    held.note_end(-signal.SIGKILL, False, [InFlight(A, 4)])
    assert held.suspects() == []
    held.note_end(-signal.SIGKILL, True, [InFlight(A, 4)])
    assert held.suspects() == [(A, 4)]


def test_what_is_known_is_forgotten_after_a_while_and_bounded() -> None:
    clock = Clock()
    held = Quarantine(clock)
    held.note_end(1, False, [InFlight(A, 0)])
    held.note_end(1, False, [InFlight(A, 0)])
    clock.now = REMEMBER_SECONDS - 1
    assert held.convicts() == [A]
    clock.now = REMEMBER_SECONDS
    assert (held.suspects(), held.convicts()) == ([], [])
    held.note_end(1, False, [InFlight(number.to_bytes(16, "little"), 0) for number in range(MOST + 10)])
    assert len(held.suspects()) == MOST
