"""The operator's subcommands of `lepton`: imported when called."""
