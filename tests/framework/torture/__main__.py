"""`python -m tests.framework.torture`: the command, apart from what forked nodes import."""

import sys

from tests.framework.torture.command import run

sys.exit(run(sys.argv[1:]))
