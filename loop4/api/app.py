"""The HTTP front door: alerts in, votes in, what waits and how it goes out.

Every answer to a mistake is `{"detail": one line}`. The caller is whoever holds the bearer token.
"""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from loop4.api.access import Access, Caller, Unauthenticated, Unavailable, may
from loop4.api.bodies import read_body, read_vote
from loop4.api.metrics import Exposition
from loop4.domain import ApprovalState, Json
from loop4.errors import EngineError, InputError, LedgerError, PolicyError
from loop4.graphs.mode_change import Carried, cast_vote, is_widening
from loop4.ledger import approvals
from loop4.ledger.approvals import Request as ApprovalRequest
from loop4.policies.people import Person
from loop4.policies.policy import Policy
from loop4.service import Service
from loop4.tools.alerts import LARGEST_BYTES, alert_events, placed

LONGEST_ID = 200


def application(service: Service, access: Access) -> FastAPI:
    """The API of one worker."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _add_errors(app)
    _add_events(app, service, access)
    _add_approvals(app, service, access)
    _add_looks(app, service, access)
    return app


def _allowed(access: Access, request: Request, scope: str) -> Caller:
    """The caller, if it may do this. Refuses with 401 or 403 before anything else is read."""
    caller = access.caller(request.headers.get("authorization", ""))
    if not may(caller, scope):
        raise HTTPException(403, f"{caller.name!r} may not do this; it needs {scope!r}")
    return caller


def _voter(access: Access, request: Request) -> Person:
    """The person who calls; a machine is refused."""
    caller = access.caller(request.headers.get("authorization", ""))
    if not isinstance(caller, Person):
        raise HTTPException(403, "only a person may vote")
    return caller


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Unauthenticated)
    async def unauthenticated(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, 401, {"www-authenticate": "Bearer"})

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": _line(str(error))}, 503)

    @app.exception_handler(LedgerError)
    @app.exception_handler(EngineError)
    async def out_of_reach(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": _line(str(error))}, 503)

    @app.exception_handler(InputError)
    async def malformed(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": _line(str(error))}, 400)


def _add_events(app: FastAPI, service: Service, access: Access) -> None:
    @app.post("/v1/events/alertmanager", status_code=202)
    async def alertmanager(request: Request) -> Response:
        _allowed(access, request, "events")
        body = await read_body(request, at_most=LARGEST_BYTES)
        catalogue = service.session.fleet.catalogue
        events = [placed(event, catalogue) for event in alert_events(body)]
        fresh = await service.accept(events)
        answer = {"events": len(events), "accepted": len(fresh)}
        return JSONResponse(answer, 202 if fresh else 200)


def _add_approvals(app: FastAPI, service: Service, access: Access) -> None:
    @app.get("/v1/approvals")
    async def waiting(request: Request) -> Response:
        _allowed(access, request, "read")
        return JSONResponse({"approvals": [_shown(r) for r in service.pending()]})

    @app.post("/v1/approvals/{approval_id}/votes")
    async def vote(approval_id: str, request: Request) -> Response:
        person = _voter(access, request)
        if len(approval_id) > LONGEST_ID:  # it would stand in the evidence for ever
            raise HTTPException(404, f"an id of {len(approval_id)} characters is unknown")
        yes = await read_vote(request)
        now_ms = service.session.fleet.clock.now_ms()
        carried: Carried | None = None
        policy = _policy_of_widening(service, approval_id)
        with service.session.ledger.transaction() as tx:
            if policy is None:
                result = approvals.vote(tx, approval_id, person.name, person.roles, yes, now_ms)
            else:
                result, carried = cast_vote(tx, policy, approval_id, person, yes, now_ms)
            known = approvals.get(tx, approval_id)
        answer: dict[str, Json] = {
            "approval_id": approval_id,
            "person": person.name,
            "accepted": result.accepted,
            "reason": result.reason,
            "state": result.approval.state.value if result.approval else "unknown",
        }
        if carried is not None:
            answer["carried_out"] = carried.to_json()
        if known is not None and known.run_id and known.approval.state is not ApprovalState.PENDING:
            state = known.approval.state.value
            await service.voted(known.run_id, f"resume:{known.run_id}:{approval_id}:{state}")
        if result.accepted:
            return JSONResponse(answer)
        return JSONResponse({**answer, "detail": _line(result.reason)}, 409 if known else 404)


def _policy_of_widening(service: Service, approval_id: str) -> Policy | None:
    """The policy as its files stand now, to judge a widening by; None for any other request."""
    fleet = service.session.fleet
    with fleet.ledger.read() as tx:
        known = approvals.get(tx, approval_id)
    if known is None or not is_widening(known):
        return None
    try:
        return fleet.policy_now() if fleet.policy_now is not None else fleet.policy
    except PolicyError as error:
        raise Unavailable(f"the policy files cannot be loaded: {error}") from error


def _add_looks(app: FastAPI, service: Service, access: Access) -> None:
    exposition = Exposition(service)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "draining" if service.is_draining else "ok"})

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        _allowed(access, request, "metrics")
        text = await exposition.render()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _shown(request: ApprovalRequest) -> dict[str, Json]:
    approval = request.approval
    return {
        "approval_id": approval.approval_id,
        "incident_id": request.incident_id,
        "role": approval.role,
        "need": approval.need,
        "votes": len(approval.votes),
        "requester": approval.requester,
        "requested_ms": approval.requested_ms,
        "expires_ms": approval.expires_ms,
        "action_digest": approval.action_digest,
        "payload": dict(request.payload),
    }


def _line(text: str) -> str:
    """One line without control characters: it may quote what was sent."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
