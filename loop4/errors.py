"""Every error that Loop4 raises on purpose, on one screen.

A denial by the gate is a value (`domain.Verdict`), never one of these. A message names the thing
with repr, what was found, what was expected and what to do; the command line prints it as one line.
"""

from __future__ import annotations


class Loop4Error(Exception):
    """Root of the tree. `exit_code` is what the command line returns: 1 failure, 2 usage."""

    exit_code = 1


class UsageError(Loop4Error):
    """What the caller handed in cannot be used: an argument, a setting, an input file."""

    exit_code = 2


class SettingsError(UsageError):
    """The environment or loop4.toml holds an unknown key or a value of the wrong type."""


class InputError(UsageError):
    """An event, webhook, recording or other document from outside is malformed."""


class PolicyError(UsageError):
    """A rule, target, catalogue or other policy document cannot be loaded. Carries where.

    `path`, `line` and `column` are 1-based; 0 means unknown.
    """

    def __init__(self, message: str, *, path: str = "", line: int = 0, column: int = 0) -> None:
        self.message, self.path, self.line, self.column = message, path, line, column
        where = path + (f":{line}" if line else "") + (f":{column}" if line and column else "")
        super().__init__(f"{where}: {message}" if where else message)


class QueryError(UsageError):
    """A metrics query is not in the supported subset, or does not parse. The message names the
    place.
    """


class BackendError(Loop4Error):
    """A system behind a port did not do what was asked."""


class Unreachable(BackendError):
    """No answer within the deadline, or no connection. The state of the target is unknown."""


class Conflict(BackendError):
    """The target changed since it was read (compare-and-set failed). Nothing was changed."""


class Refused(BackendError):
    """The target answered that it will not do this. Nothing was changed."""


class PermitError(Loop4Error):
    """An executor was called without a valid, unused permit for exactly these arguments."""


class LedgerError(Loop4Error):
    """The ledger cannot be opened, read or written; while that holds, nothing may act."""


class LedgerUnavailable(LedgerError):
    """The database is out of reach, locked or full. The same may succeed when that is over."""


class RunnerBusy(LedgerError):
    """Another live runner holds this data folder."""


class LeaseLost(LedgerError):
    """Another worker drives this run now; what this one wanted to write was refused."""


class EngineError(Loop4Error):
    """The durable engine's database cannot be opened, read or written."""


class EvidenceError(LedgerError):
    """The evidence chain does not verify. The message names the first bad record."""


class ModelError(Loop4Error):
    """A language model failed; the playbook takes over."""


class LabError(Loop4Error):
    """The lab could not be started or driven."""
