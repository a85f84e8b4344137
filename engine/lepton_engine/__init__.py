"""Lepton's inference engine."""
