"""
The subcommands of ``autoresearch``, one module each.

A module has ``HELP`` (one line), ``arguments(parser)`` and ``run(options)``, which returns the exit status.
What stands on a campaign opens it with :func:`.opened.campaign`.
"""
