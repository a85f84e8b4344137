"""Traces and metrics by OpenTelemetry. Imported only by a server that is asked for them."""
