"""The contract of Lepton, as generated Python."""
