"""The embedded default model: its corpus, its training and its evaluation."""
