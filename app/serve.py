"""Serve the page: the program that `brainage app` becomes."""

import argparse
import os

from page_parts.server import ORIENTATION_VARIABLE, serve

HOSTS_VARIABLE = "BRAINAGE_HOSTS"


def main() -> None:
    """Read the options and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="brainage app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--allow-host", action="append", default=[])
    parser.add_argument("--orientation", default="")
    options = parser.parse_args()
    if options.orientation:
        os.environ[ORIENTATION_VARIABLE] = options.orientation
    named = [name for name in os.environ.get(HOSTS_VARIABLE, "").split(",") if name]
    serve(options.host, options.port, [*named, *options.allow_host])


if __name__ == "__main__":
    main()
