"""The load of the end-to-end scenarios, against servers on loopback: SIGTERM stands for a pod's end."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from benchmarks.served import Server, serving
from tests.e2e.load import Load, LoadError, assert_good, shares
from tests.e2e.plan import Plan, Record
from tests.e2e.references import Reference, collect

FLAGS = ("--batch-invariant", "--kv-cache-memory", "32MiB")
QUICK = (0.2, 0.6)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that stays."""
    with serving(*FLAGS) as found:
        yield found


@pytest.fixture(scope="module")
def references(server: Server) -> tuple[Reference, ...]:
    return tuple(asyncio.run(collect(server.target, count=8, longest=64)))


def plan(name: str, target: str, references: tuple[Reference, ...], streams: int = 8) -> Plan:
    return Plan(name, target, streams, QUICK, references, rate=100.0)


def test_streams_stay_open_end_well_and_say_the_same(server: Server, references: tuple[Reference, ...]) -> None:
    with Load(plan("steady", server.target, references), processes=2) as load:
        load.wait_for(lambda records: len(records) >= 40, "40 streams", 60)
        load.streams(2)
        load.wait_for(lambda records: len(records) >= 60, "60 streams", 60)
        records = load.finish()
    assert_good(records, least=60)
    assert len({record.name for record in records}) == len(records)
    assert all(record.first is not None and record.first <= record.seconds for record in records)
    assert {record.asked for record in records} == {record.tokens for record in records}


def test_a_server_that_drains_cuts_no_stream(server: Server, references: tuple[Reference, ...]) -> None:
    with ExitStack() as stack:
        leaving = stack.enter_context(serving(*FLAGS, "--drain-timeout", "60", "--drain-propagation", "3"))
        target = f"ipv4:{server.target},{leaving.target}"
        with Load(replace(plan("drain", target, references), watches_health=True)) as load:
            load.wait_for(lambda records: len(records) >= 20, "streams on both", 60)
            leaving.process.send_signal(signal.SIGTERM)
            assert leaving.process.wait(60) == 0
            seen = len(load.records)
            load.wait_for(lambda records: len(records) >= seen + 20, "streams on the one that is left", 60)
            assert_good(load.finish(), least=40)
    assert leaving.log.text.count("request_id") >= 5, "it had streams"


def test_a_server_that_is_killed_is_seen(references: tuple[Reference, ...], server: Server) -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(RuntimeError, match="the server ended with -9"))
        victim = stack.enter_context(serving(*FLAGS))
        with Load(plan("kill", victim.target, references)) as load:
            load.wait_for(lambda records: len(records) >= 8, "streams", 60)
            victim.process.kill()
            load.wait_for(lambda records: any(r.code == "UNAVAILABLE" for r in records), "UNAVAILABLE", 60)
            with pytest.raises(LoadError, match="UNAVAILABLE"):
                assert_good(load.finish())


def test_another_text_is_seen(server: Server, references: tuple[Reference, ...]) -> None:
    first = references[0]
    wrong = replace(first, token_ids=(*first.token_ids[:5], first.token_ids[5] + 1, *first.token_ids[6:]))
    with Load(plan("wrong", server.target, (wrong,), streams=2)) as load:
        load.wait_for(lambda records: len(records) >= 2, "streams", 60)
        records = load.finish()
    with pytest.raises(LoadError, match=r"token 5 is \d+ instead of \d+"):
        assert_good(records)


def test_a_reference_tells_what_differs(references: tuple[Reference, ...]) -> None:
    one = references[0]
    ids = list(one.token_ids[:20])
    assert one.problem(20, ids, one.text(20)) == ""
    assert one.problem(20, ids[:-1], one.text(19)) == "19 tokens instead of 20"
    assert "another text" in one.problem(20, ids, one.text(20) + "!")
    assert one.problem(20, [*ids[:19], ids[19] ^ 1], "").startswith("token 19 is")


def test_too_few_streams_say_nothing() -> None:
    with pytest.raises(LoadError, match="only 1 streams"):
        assert_good([Record("a", 0.0, 0.1, 1.0, 8, 8, "OK", "", "")], least=2)


def test_shares_add_up() -> None:
    assert shares(50, 3) == [16, 17, 17]
    assert sum(shares(7, 4)) == 7
