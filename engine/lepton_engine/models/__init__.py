"""Decoder families: what differs between them, one file each."""
