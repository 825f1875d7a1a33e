"""The policy as its files stand now. A run keeps the version it started with; an act is judged
under the present one as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop4.policies.load import SHIPPED, load_policy
from loop4.policies.policy import Policy

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(slots=True)
class PolicyFiles:
    """The files of one policy, read again only when one of them changed.

    `rules_dir` None means the shipped rules, as in `load_policy`.
    """

    rules_dir: Path | None
    bindings_files: Sequence[Path]
    executors: frozenset[str] | None
    _policy: Policy | None = None
    _stamp: Stamp = field(default=())

    def load(self) -> Policy:
        """The policy of this moment. Raises PolicyError while the files cannot be loaded."""
        stamp = self._look()
        if self._policy is None or stamp != self._stamp:
            self._policy = None
            self._policy = load_policy(
                self.rules_dir, bindings_files=self.bindings_files, executors=self.executors
            )
            self._stamp = stamp
        return self._policy

    def _look(self) -> Stamp:
        folder = SHIPPED / "rules" if self.rules_dir is None else self.rules_dir
        files = [*sorted(folder.rglob("*.y*ml")), *self.bindings_files]
        found = []
        for path in files:
            try:
                status = path.stat()
            except OSError:
                found.append((str(path), -1, -1))
            else:
                found.append((str(path), status.st_mtime_ns, status.st_size))
        return tuple(found)
