"""The way in: as the module ``runner``, or by the path of the folder. Not imported by anything."""

from __future__ import annotations

import importlib
import os
import sys

if not __package__:  # started by the folder's path
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
start = importlib.import_module(f"{__package__ or 'runner'}.runner").main

if __name__ == "__main__":
    sys.exit(start(sys.argv[1:]))
