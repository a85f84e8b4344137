"""The services: thin classes between the wire, the converters and the engine.

Streams are written with the writer API: a cancelled call then arrives as CancelledError at an await, which runs the
`finally` blocks that release the request, and is raised on (swallowing it leaks, grpc#43360).
"""
