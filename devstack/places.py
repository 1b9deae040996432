"""Where things live. Tools (venv, boot, parts) are the checkout's own; state (run, log, data, secrets) is a stack's.

FUZHEN_HOME moves only the state, so that a second stack or a test stack shares the tools.
"""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
TOOLS = REPO / ".fuzhen"
PARTS = TOOLS / "parts"
KAFKA_LIBS = PARTS / "kafka" / "libs"
KAFKA_CLASSES = PARTS / "kafka" / "classes.jsa"
MONGOD = PARTS / "mongod"
ENVOY = PARTS / "envoy"


def home() -> Path:
    return Path(os.environ.get("FUZHEN_HOME") or TOOLS).resolve()
