"""Text in and out: tokenizers, chat templates, incremental detokenisation. Imports no torch and no transformers."""
