"""`make gpu`: checks and measures the engine on a machine with a GPU, with what a torch image has."""
