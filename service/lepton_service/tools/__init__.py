"""Tool calls: offered to a model in its own format, held to their schemas, parsed out of what it writes."""
