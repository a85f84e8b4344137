"""The engine's loop in a thread or in a process of its own, behind the same messages."""
