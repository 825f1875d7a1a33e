"""The one page that goes out past the gate: the fleet cannot read its ledger or its policies,
and does nothing.

Its text is fixed, without a word from telemetry; at most one goes out in 15 minutes.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

EVERY_MS = 15 * 60_000
TEXT = """# Emergency: the fleet has stopped acting

> **To:** on-call

The fleet cannot read or write its ledger, or cannot read its policies. While that holds it does
nothing: no remediation, no message, no verification. Running incidents are not being handled.

1. Look at the command's error output and at the disk of the data folder.
2. Handle open incidents by hand; `loop4 approvals list` and `loop4 evidence show` may still work.
3. Repair the cause, then run `loop4 resume`: each open run is reconciled with what happened.
"""


def page_emergency(operations: Path, now_ms: int) -> bool:
    """Write the fixed page and say so on stderr; False when one went out in these 15 minutes.

    Never raises: where even this file cannot be written, stderr has to do.
    """
    slot = datetime.fromtimestamp(now_ms // EVERY_MS * EVERY_MS / 1000, UTC)
    path = operations / "work" / "incidents" / f"EMERGENCY-{slot:%Y-%m-%dT%H%MZ}.md"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(TEXT)
    except FileExistsError:
        return False
    except OSError as error:
        print(f"loop4: the emergency page cannot be written: {error.strerror}", file=sys.stderr)
    print("loop4: EMERGENCY, the fleet has stopped acting: see its error output", file=sys.stderr)
    return True
