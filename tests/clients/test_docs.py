"""docs/clients.md names every reason of the contract, with the status that the server sends."""

import re

from lepton.v1.errors_pb2 import ErrorReason
from lepton_service.converters.errors import _CODES, PREFIX
from tests.clients.toolchains import ROOT


def test_every_reason_is_listed_with_its_code() -> None:
    text = (ROOT / "docs" / "clients.md").read_text()
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", text, re.MULTILINE))
    sent = {ErrorReason.Name(reason).removeprefix(PREFIX): code.name for reason, code in _CODES.items()}
    assert listed == sent
    assert {name.removeprefix(PREFIX) for name in ErrorReason.keys()} == {*listed, "UNSPECIFIED"}  # noqa: SIM118
