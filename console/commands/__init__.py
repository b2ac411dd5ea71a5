"""The subcommands of ``vesselq``, one module a noun. Every module imports what it needs when it runs."""
