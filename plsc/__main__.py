"""`python -m plsc <verb>`."""

import sys

from plsc.cli import main

sys.exit(main())
