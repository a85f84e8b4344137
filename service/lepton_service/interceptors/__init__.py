"""What goes around every call, one concern a file. Outermost first: access log, tracking, errors, authentication."""
