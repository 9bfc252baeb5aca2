"""`ecotone COMMAND`: the command line. Talks to the server's REST API; results on stdout, all else on stderr."""

from ecotone.cli.main import main

__all__ = ["main"]
