"""Energy: read from the machine's own counters, shared among the requests that it was spent for. Imports no torch."""
