"""Makes checkpoints from checkpoints: quantised ones, pruned ones."""
