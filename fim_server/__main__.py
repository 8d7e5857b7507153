"""`python -m fim_server`: the same as the console script `fim-server`."""

import sys

from fim_server.cli import main

sys.exit(main())
