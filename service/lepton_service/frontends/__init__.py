"""Several front-end processes before one engine.

The first front end is the process that was started: it keeps the engine running, has the control port, and starts the
others, its siblings. All listen on the same ports by SO_REUSEPORT, which the first has reserved for them.
"""
