"""What telemetry costs: no import where it is off, nothing a token."""

import subprocess
import sys
from typing import Any

from tests.service.telemetry.conftest import Observe


def test_a_server_without_telemetry_and_the_client_import_none_of_it() -> None:
    code = (
        "import sys, lepton_service.app, lepton_service.commands.serve, lepton_service.client\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client', 'pynvml'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


class Counting:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.calls = 0

    def record(self, *_: Any) -> None:
        self.calls += 1

    add = record


async def test_a_long_stream_is_recorded_as_often_as_a_short_one(observe: Observe) -> None:
    told = []
    async with observe(metrics_port=0) as observed:
        for tokens in (2, 500):
            counting = Counting()
            instruments = observed.telemetry._instruments
            instruments._histograms = dict.fromkeys(instruments._histograms, counting)
            instruments._requests = instruments._finishes = counting
            async with observed.client.generate("hello", max_tokens=tokens) as stream:
                async for _ in stream:
                    pass
            while not counting.calls:
                await observed.page()
            told.append(counting.calls)
    assert told[0] == told[1] <= 12
