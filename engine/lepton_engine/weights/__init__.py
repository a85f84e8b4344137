"""Reads checkpoints: where they are, what they say, the tensors in them."""
