"""The Kubernetes operator of Lepton."""
