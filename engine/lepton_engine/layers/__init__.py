"""The parts that decoder families are made of."""
