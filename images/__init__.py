"""Container images of the server and the operator, built without a container daemon and without a registry."""
