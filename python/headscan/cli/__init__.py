"""The command ``headscan``: a module each command; `add` describes it, its `run` calls the library and prints."""
