"""Between the contract's messages and the engine's types: pure functions, one file a concern."""
