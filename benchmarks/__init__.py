"""Every figure that README quotes, as a command: `python -m benchmarks.NAME [--quick] [--json FILE]`."""
