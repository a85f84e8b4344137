"""Limits of tenants: what is counted, what is refused, what is given back."""

import pytest

from lepton_engine.core.tenants import IDLE_TENANTS, TenantLimits, TenantTable, TokenBucket
from lepton_engine.errors import TenantConcurrencyError, TenantQueueFullError, TenantTokenRateError
from tests.engine.core.loop import Loop


def table(**limits: int) -> TenantTable:
    """Limits of the tenant `small`; nobody else has any."""
    return TenantTable(TenantLimits(), {"small": TenantLimits(**limits)})


def test_requests_in_flight_are_bounded_and_others_are_not() -> None:
    loop = Loop(max_num_seqs=1, tenants=table(max_concurrent_requests=2))
    ends = [loop.add([1], tenant="small", max_tokens=4) for _ in range(2)]
    with pytest.raises(TenantConcurrencyError, match="tenant 'small' has 2 requests in flight, its limit is 2") as full:
        loop.add([1], tenant="small")
    assert full.value.details == {"tenant": "small", "limit": "2"}
    assert full.value.retry_after == 1.0
    for _ in range(5):
        loop.add([1])
    loop.scheduler.abort(ends[1].key)
    loop.add([1], tenant="small")
    loop.run()
    assert loop.scheduler.admission.rejected == {"TenantConcurrencyError": 1}
    assert loop.scheduler.admission.capacity_rejected == 0
    loop.assert_drained()
    assert loop.scheduler.admission.tenants.accounts == {}


def test_requests_that_wait_are_bounded_but_not_those_that_start() -> None:
    loop = Loop(max_num_seqs=2, tenants=table(max_queued_requests=1))
    for _ in range(2):
        loop.add([1], tenant="small", max_tokens=9)  # Both start in the next step.
    loop.step()
    loop.add([1], tenant="small")
    with pytest.raises(TenantQueueFullError, match="tenant 'small' has 1 requests waiting, its limit is 1") as full:
        loop.add([1], tenant="small")
    assert full.value.retry_after == 1.0
    loop.add([1])
    loop.run()
    loop.add([1], tenant="small")
    loop.run()
    loop.assert_drained()


def test_tokens_of_prompts_and_outputs_are_counted_and_come_back_with_time() -> None:
    loop = Loop(tenants=table(tokens_per_minute=60))  # One a second, a step takes a second.
    loop.add([1] * 30, tenant="small", max_tokens=20)
    with pytest.raises(TenantTokenRateError, match="has 30 of its 60 tokens a minute left, the prompt has 31") as empty:
        loop.add([1] * 31, tenant="small")
    assert empty.value.retry_after == pytest.approx(1)
    loop.run()  # Twenty steps, twenty tokens: as many came back as were generated.
    with pytest.raises(TenantTokenRateError):
        loop.add([1] * 32, tenant="small")
    loop.add([1] * 28, tenant="small", max_tokens=1)
    loop.run()
    loop.now += 60
    loop.add([1] * 60, tenant="small", max_tokens=1)
    loop.run()


def test_a_prompt_of_more_than_a_minute_waits_for_a_full_bucket() -> None:
    loop = Loop(tenants=table(tokens_per_minute=20), num_blocks=99)
    loop.add([1] * 50, tenant="small", max_tokens=1)
    loop.run()
    with pytest.raises(TenantTokenRateError) as owed:
        loop.add([1], tenant="small")
    assert owed.value.retry_after == 60  # It owes thirty tokens; a delay is never longer than a minute.


def test_what_never_ran_is_given_back() -> None:
    loop = Loop(max_num_seqs=1, tenants=table(tokens_per_minute=100), max_queue_time=3)
    loop.add([1], max_tokens=9)
    loop.step()
    cancelled, late = (loop.add([1] * 40, tenant="small") for _ in range(2))
    loop.scheduler.abort(cancelled.key)
    for _ in range(4):
        loop.step()
    assert loop.told[late.key].error == "QueueTimeoutError"
    loop.add([1] * 100, tenant="small", max_queue_time=3)


def test_a_bucket_keeps_its_level_when_the_limit_changes() -> None:
    loop = Loop(tenants=table(tokens_per_minute=100))
    loop.add([1] * 50, tenant="small", max_tokens=1)
    tenants = loop.scheduler.admission.tenants
    tenants.replace(table(tokens_per_minute=1000), 0.0)
    bucket = tenants.account("small").bucket
    assert bucket is not None
    assert bucket.level(0.0) == 950
    tenants.replace(table(tokens_per_minute=20), 0.0)
    assert tenants.account("small").bucket.level(0.0) == -30  # type: ignore[union-attr]
    tenants.replace(table(), 0.0)
    assert tenants.account("small").bucket is None
    loop.add([1] * 200, tenant="small", max_tokens=1)
    tenants.replace(table(max_concurrent_requests=1), 0.0)
    with pytest.raises(TenantConcurrencyError):
        loop.add([1], tenant="small")
    loop.run()
    loop.assert_drained()


def test_a_bucket_is_never_more_than_full() -> None:
    bucket = TokenBucket(60, 0.0)
    bucket.take(-10, 0.0)
    assert bucket.level(1000.0) == 60
    bucket.take(90, 1000.0)
    assert bucket.wait(1, 1000.0) == 31
    assert bucket.wait(500, 1000.0) == 90
    assert bucket.level(990.0) == -30  # Clocks that go back take nothing.


def test_accounts_of_tenants_that_are_gone_do_not_pile_up() -> None:
    loop = Loop(tenants=TenantTable(TenantLimits(tokens_per_minute=6000)))
    tenants = loop.scheduler.admission.tenants
    for number in range(3 * IDLE_TENANTS):
        loop.add([1], tenant=str(number), max_tokens=1)
        loop.run()
    assert len(tenants.accounts) <= IDLE_TENANTS
    loop.assert_drained()


def test_a_heavier_tenant_gets_more_of_a_busy_server() -> None:
    limits = TenantTable(TenantLimits(), {"heavy": TenantLimits(weight=3)})
    loop = Loop(max_num_seqs=1, tenants=limits)
    for _ in range(40):
        loop.add([1] * 4, tenant="heavy", max_tokens=2)
        loop.add([1] * 4, tenant="light", max_tokens=2)
    while loop.scheduler.admission.tenants.account("heavy").in_flight > 10:
        loop.step()
    assert loop.scheduler.admission.tenants.account("light").in_flight == pytest.approx(30, abs=2)
