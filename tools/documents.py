"""Acting by writing: pages, drafts, postmortems and signals as files under work/ of the operations
folder.
"""

from __future__ import annotations

import hashlib

from loop4.domain import Action, IntentState, Outcome
from loop4.errors import Unreachable
from loop4.tools.tool import Hands, Probe, act

# tool name -> what it does; each writes {"path", "text"} once, atomically
_WRITES = {
    "oncall.page": "page the on-call person",
    "incidents.notify": "tell the people concerned that an incident changed state",
    "incidents.write_context": "write the context package",
    "incidents.draft_customer_update": "write a draft of a customer message for a person to send",
    "incidents.write_postmortem": "write the postmortem draft",
    "signals.file": "file a signal",
}


async def _write(hands: Hands, action: Action) -> Outcome:
    """Create the file. The same text at the same path twice changes nothing; other text is
    refused.
    """
    if hands.files is None:
        raise Unreachable("no operations folder is configured; set LOOP4_OPERATIONS")
    path, text = str(action.arguments["path"]), str(action.arguments["text"])
    result = await hands.files.write_new(path, text, mark=action.action_id)
    word = "written" if result.changed else "was there already, with the same text"
    return Outcome(
        IntentState.DONE,
        f"{path} {word}",
        after={"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest()},
    )


async def _probe(hands: Hands, action: Action) -> Probe:
    """A file answers for itself: writing the same bytes again is harmless, so the state never
    differs.
    """
    return Probe(hands.files is not None, False, action.target_revision)


DOCUMENT_TOOLS = tuple(
    act(name, effect=effect, reversible=False, probe=_probe)(_write)
    for name, effect in _WRITES.items()
)
