"""The subcommands of `lepton`. Each module has HELP, `add_arguments(parser)` and `run(args) -> exit status`.

They are found through the entry-point group `lepton.commands` and imported only when needed; what is slow to import
(the engine, the server) is imported inside `run`.
"""
