"""Outputs held to a form: constraints become grammars, grammars say which tokens may come next. Imports no torch."""
