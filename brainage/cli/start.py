"""Where the console script begins: Ctrl-C is one line also before anything is loaded."""

import sys


def main() -> None:
    """Run the `brainage` command."""
    try:
        from brainage.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted; nothing was begun.", file=sys.stderr)
        sys.exit(130)
