"""The subcommands of `holmes`, a file a group."""
