"""Speculative decoding: who guesses the next tokens, and how many; `core/acceptance.py` says which of them are kept."""
