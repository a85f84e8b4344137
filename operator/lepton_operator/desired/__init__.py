"""What a LeptonModel becomes: pure functions from the spec to manifests."""

from lepton_operator.desired.all import Choices, desired

__all__ = ["Choices", "desired"]
