"""The policy as its files stand now. A run keeps the version it started with; an act is judged
under the present one as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from loop4.policies.documents import file_stamp
from loop4.policies.load import BINDINGS_FILES, SHIPPED, bindings_of, load_policy
from loop4.policies.policy import Policy

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(slots=True)
class PolicyFiles:
    """The files of one policy, read again only when one of them changed, came or went.

    `rules_dir` None means the shipped rules, as in `load_policy`; `policies` is the folder that
    bindings and imported limits lie in.
    """

    rules_dir: Path | None
    policies: Path
    executors: frozenset[str] | None
    _policy: Policy | None = None
    _stamp: Stamp = field(default=())

    def load(self) -> Policy:
        """The policy of this moment. Raises PolicyError while the files cannot be loaded."""
        stamp = self._look()
        if self._policy is None or stamp != self._stamp:
            self._policy = None
            self._policy = load_policy(
                self.rules_dir, bindings_files=bindings_of(self.policies), executors=self.executors
            )
            self._stamp = stamp
        return self._policy

    def _look(self) -> Stamp:
        folder = SHIPPED / "rules" if self.rules_dir is None else self.rules_dir
        files = [*sorted(folder.rglob("*.y*ml")), *(self.policies / n for n in BINDINGS_FILES)]
        return tuple((str(path), *file_stamp(path)) for path in files)
