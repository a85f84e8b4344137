"""The engine in a thread or in a process of its own, behind the same messages. The client side imports no torch."""
