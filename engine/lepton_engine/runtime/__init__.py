"""Decisions become tensors: batches, forward passes and samples."""
