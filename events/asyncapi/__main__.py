from __future__ import annotations

import sys

from eventkit.contracts import contracts
from events.asyncapi.document import generate

if sys.argv[1:] != ["write"]:
    sys.exit("usage: python -m events.asyncapi write")
target = contracts().root / "asyncapi.yaml"
target.write_text(generate(contracts()), encoding="utf-8")
print(f"wrote {target}")
