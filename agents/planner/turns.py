"""Turns with an endpoint, each booked: on the work that needs it, on its incident's budget, and on
the totals of the process. The probe that finds the rung is a turn like any other.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from loop4.agents.planner.budget import (
    Budget,
    Limits,
    Prices,
    Stopped,
    counted,
    load_prices,
    most_tokens,
)
from loop4.agents.planner.endpoint import Endpoint
from loop4.agents.planner.ladder import Ladder, Rung
from loop4.agents.planner.port import PLAYBOOK, Usage
from loop4.agents.planner.settings import ModelSettings
from loop4.agents.planner.totals import Totals
from loop4.agents.planner.wire import Answer, EndpointError, Piece, Request, Trouble
from loop4.telemetry import model_span

INCIDENTS_KEPT = 64
# troubles at the door: no model has worked, so no turn is booked
_FREE = frozenset(
    {
        Trouble.UNREACHABLE,
        Trouble.RATE_LIMITED,
        Trouble.WRONG_KEY,
        Trouble.REJECTED,
        Trouble.SERVER_ERROR,
    }
)


@dataclass(slots=True)
class Work:
    """What one task has used; becomes its note."""

    task: str
    started: float
    budget: Budget
    rung: str = PLAYBOOK
    turns: int = 0
    calls: int = 0
    largest_prompt: int = 0
    waited_s: float = 0.0
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)


class Turns:
    """One endpoint with its ladder and its books. Budgets are per incident."""

    def __init__(
        self,
        settings: ModelSettings,
        *,
        limits: Limits | None = None,
        prices: Prices | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.limits = limits or Limits(answer_tokens=settings.answer_tokens)
        self.endpoint = Endpoint(settings)
        self.ladder = Ladder(self.endpoint)
        self.totals = Totals()
        self.monotonic = monotonic
        self._prices = prices or load_prices()
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def begin(self, task: str, incident_id: str) -> Work:
        """A task on the budget of its incident."""
        budget = self._budgets.get(incident_id)
        if budget is None:
            budget = self._budgets[incident_id] = Budget(self.limits)
            while len(self._budgets) > INCIDENTS_KEPT:
                self._budgets.popitem(last=False)
        return Work(task, self.monotonic(), budget)

    async def rung(self, work: Work) -> Rung:
        """The endpoint's rung; finding it is booked on this work.

        Raises Stopped when none works or the budget is used up, EndpointError when nobody answers.
        """

        async def ask(made: Request) -> Answer:
            return await self.ask(work, made, most_tokens(made.sent_text()))

        before = self.ladder.found
        rung = await self.ladder.rung(ask)
        if rung is None:
            raise Stopped("no way was found to get a tool call out of this model")
        if before is None:
            work.notes.append(f"the endpoint was tried: {rung.value} works")
        work.rung = rung.value
        return rung

    async def ask(self, work: Work, made: Request, need: int) -> Answer:
        """One whole answer; `need` are the most tokens that the prompt can have.

        Raises Stopped when the budget does not hold it, EndpointError when the endpoint fails.
        """
        whole: Answer | None = None
        before = work.usage
        with model_span(self.settings.model, answer_limit=self.limits.answer_tokens) as span:
            async with aclosing(self._pieces(work, made, need)) as pieces:
                async for piece in pieces:
                    whole = piece.answer or whole
            now = work.usage
            span.set("gen_ai.usage.input_tokens", now.prompt_tokens - before.prompt_tokens)
            span.set("gen_ai.usage.output_tokens", now.answer_tokens - before.answer_tokens)
        if whole is None:  # a stream ends with its whole answer or with an error
            raise EndpointError(Trouble.CUT, "the model endpoint ended its answer before it began")
        return whole

    async def stream(self, work: Work, made: Request) -> AsyncGenerator[Piece, None]:
        """One answer in pieces, as `ask`."""
        need = most_tokens(made.sent_text())
        if need > self.limits.prompt_tokens:
            raise Stopped(
                f"the prompt needs {need} tokens, the limit is {self.limits.prompt_tokens}"
            )
        work.rung = "text"
        async with aclosing(self._pieces(work, made, need)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self, work: Work, made: Request, need: int) -> AsyncGenerator[Piece, None]:
        """One answer in pieces. What breaks off on the way is booked with the most that it took."""
        held = work.budget.reserve(need, made.answer_tokens)
        work.largest_prompt = max(work.largest_prompt, need)
        started = self.monotonic()
        said: list[str] = []
        is_booked = False
        try:
            async with aclosing(self.endpoint.stream(made)) as pieces:
                async for piece in pieces:
                    said.append(piece.text + piece.call_text)
                    if piece.answer is not None:
                        is_booked = True
                        self._book(work, made, _said(piece.answer), piece.answer.usage)
                    yield piece
        except EndpointError as error:
            is_booked = is_booked or error.trouble in _FREE
            raise
        finally:
            if not is_booked:
                self._book(work, made, "".join(said), None)
            work.budget.release(held)
            work.waited_s += self.monotonic() - started

    def _book(
        self, work: Work, made: Request, answer: str, reported: tuple[int, int] | None
    ) -> None:
        model = self.settings.model
        usage = counted(
            self._prices, model, prompt=made.sent_text(), answer=answer, reported=reported
        )
        work.turns += 1
        work.usage = work.usage.plus(usage)
        work.budget.take(usage)
        self.totals.book(usage)


def _said(answer: Answer) -> str:
    return answer.text + "".join(f"{c.name}{c.arguments}" for c in answer.calls)
