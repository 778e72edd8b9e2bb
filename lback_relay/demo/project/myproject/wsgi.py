"""The shop's WSGI application: ``myproject.wsgi:application``."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Lback reads config.json from the current folder and imports the URLconf by name.
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from lback.core import server  # noqa: E402 - Lback needs the folder first

server.initialize_core_components()
application = server.wsgi_application
