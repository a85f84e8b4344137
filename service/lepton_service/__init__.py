"""The gRPC service of Lepton, its client and the `lepton` command."""
