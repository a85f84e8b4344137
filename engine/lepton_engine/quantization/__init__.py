"""Quantised weights: schemes, how weights are quantised, and the checkpoints that hold them."""
