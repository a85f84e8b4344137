"""Other people's test suites against the running gRPC stack: `python -m conformance`."""
