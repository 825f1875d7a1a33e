"""Permits: leave to run one exact action once, made and checked inside this process only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading

from loop4.canonical import canonical_bytes
from loop4.domain import Action, Effect, Permit, Verdict
from loop4.errors import PermitError
from loop4.policies.approval import action_digest


class PermitOffice:
    """Issues permits and checks them. The key is random per process and never stored.

    After a restart every earlier permit is void: recovery judges again.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(32) if key is None else key
        self._used: set[str] = set()  # kept for the life of the process: acts are few
        self._lock = threading.Lock()

    def issue(self, action: Action, verdict: Verdict, now_ms: int, ttl_ms: int) -> Permit:
        """A permit for exactly this action. Raises PermitError unless the verdict allows it."""
        if verdict.effect is not Effect.ALLOW:
            raise PermitError(f"no permit for {action.tool!r}: the verdict is {verdict.effect}")
        if ttl_ms <= 0:
            raise PermitError(f"a permit cannot live for {ttl_ms} ms; expected more than 0")
        bound = action_digest(action, verdict.policy_version)
        nonce, expires_ms = secrets.token_hex(16), now_ms + ttl_ms
        mac = self._mac(action.action_id, bound, verdict.policy_version, expires_ms, nonce)
        return Permit(action.action_id, bound, verdict.policy_version, expires_ms, nonce, mac)

    def check(self, permit: Permit, action: Action, policy_version: str, now_ms: int) -> None:
        """Use up the permit. Raises PermitError, saying which of the conditions does not hold.

        The digest is computed again from the action that is about to run. A permit that fails is
        not used up; one that passes never passes again.
        """
        mac = self._mac(
            permit.action_id,
            permit.action_digest,
            permit.policy_version,
            permit.expires_ms,
            permit.nonce,
        )
        if not isinstance(permit.mac, str) or not hmac.compare_digest(
            mac.encode(), permit.mac.encode()
        ):
            raise PermitError(f"the permit for {action.tool!r} was not issued by this process")
        if permit.policy_version != policy_version:
            raise PermitError(
                f"the policy changed since the permit for {action.tool!r}; judge again"
            )
        if permit.action_id != action.action_id or not hmac.compare_digest(
            permit.action_digest, action_digest(action, policy_version)
        ):
            raise PermitError(f"the permit is for another action than this {action.tool!r}")
        if not now_ms < permit.expires_ms:
            raise PermitError(f"the permit for {action.tool!r} has expired; judge again")
        with self._lock:
            if permit.nonce in self._used:
                raise PermitError(f"the permit for {action.tool!r} was used before")
            self._used.add(permit.nonce)

    def _mac(
        self, action_id: str, bound: str, policy_version: str, expires_ms: int, nonce: str
    ) -> str:
        message = canonical_bytes([action_id, bound, policy_version, expires_ms, nonce])
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
