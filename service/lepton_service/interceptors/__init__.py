"""What goes around every call, one concern a file.

Outermost first: access log, telemetry, tracking, errors, authentication.
"""
