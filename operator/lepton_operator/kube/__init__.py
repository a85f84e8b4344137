"""The Kubernetes API on raw requests: access, client, watches, the Lease."""
