"""The subcommands of ``headscan``, a module each: `add` describes one, its `run` calls the library and prints."""
