"""`python -m spex` is the command `spex`."""

import sys

from spex.cli import main

if __name__ == "__main__":
    sys.exit(main())
