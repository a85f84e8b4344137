"""The systems that benchmarks compare, each in a process of its own so that memory and threads are its own."""
