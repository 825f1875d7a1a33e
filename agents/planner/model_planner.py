"""The planner with a model: ask, read, stop. Whatever fails, the playbook's report stands and the
note says why.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from loop4.agents.agent import Agent, Brief, Report
from loop4.agents.investigation import investigate
from loop4.agents.planner.answers import accept, report_tool
from loop4.agents.planner.budget import Limits, Loops, Prices, Stopped, most_tokens
from loop4.agents.planner.evidence import EvidenceBook, names_of
from loop4.agents.planner.fact_check import FactCheck, SentenceStream
from loop4.agents.planner.ladder import Fault, Rung, calls_of, request
from loop4.agents.planner.masking import Masker, scrub
from loop4.agents.planner.port import ModelNote, ProseFacts, Refined, Written
from loop4.agents.planner.prompt import Conversation, opening
from loop4.agents.planner.prose import prose_request
from loop4.agents.planner.reads import Desk, Shown, arguments_of, read_tools, run_read
from loop4.agents.planner.settings import ModelSettings
from loop4.agents.planner.shapes import Tool
from loop4.agents.planner.turns import Turns, Work
from loop4.agents.planner.wire import Answer, Call, EndpointError, Message, Trouble
from loop4.canonical import digest
from loop4.domain import Finding, JsonObject, SourceKind
from loop4.errors import ModelError
from loop4.prompts.load import load

READ_NAMES = (
    "metrics.query",
    "metrics.query_range",
    "traces.spans",
    "logs.records",
    "changes.between",
    "workloads.inventory",
)
CALLS_PER_TURN = 3
UNTRUE = "sentence fails the fact check"
LOOKS_KEPT = 256
REST_S = 60.0  # after a dead endpoint, nobody waits for it again so soon
_DEAD = frozenset({Trouble.UNREACHABLE, Trouble.TIMEOUT, Trouble.WRONG_KEY, Trouble.SERVER_ERROR})


def quiet(line: str) -> None:
    """The default for `tell`: nobody listens; the note has the line as well."""


class ModelPlanner:
    """Refines and words with one endpoint. Safe to share between runs; budgets are per incident.

    `tell` gets one line the first time that something is wrong with the endpoint. `monotonic` are
    seconds for time-outs and for the rest after a dead endpoint, never for decisions.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        limits: Limits | None = None,
        prices: Prices | None = None,
        tell: Callable[[str], None] = quiet,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.turns = Turns(settings, limits=limits, prices=prices, monotonic=monotonic)
        self.settings = settings
        self.limits = self.turns.limits
        self.totals = self.turns.totals
        self._tell = tell
        self._told: set[str] = set()
        self._monotonic = monotonic
        self._last_seen: OrderedDict[tuple[str, str], tuple[str, tuple[Finding, ...]]] = (
            OrderedDict()
        )
        self._resting_until = 0.0
        self._resting_why = ""

    def __repr__(self) -> str:
        return f"ModelPlanner({self.turns.endpoint!r})"

    async def refine(self, agent: Agent, brief: Brief, report: Report) -> Refined:
        """The report with the findings and proposals of the model that hold.

        With nothing new to see it is not asked again: what it added then stands, with the evidence
        of that time. A proposal does not: it was judged, and what it rests on may have moved.
        """
        work = self.turns.begin(f"refine {agent.name}", brief.incident_id)
        prompts = {p.name: p.digest for p in (load("boundaries"), load(agent.name))}
        key, seen = (brief.incident_id, agent.name), _look(brief, report)
        last_seen, added_then = self._last_seen.get(key, ("", ()))
        if last_seen == seen:
            work.notes.append("nothing new since the model was last asked")
            stands = replace(report, findings=(*report.findings, *added_then))
            return Refined(stands, self._note(work, prompts))
        try:
            self._awake()
            async with asyncio.timeout(self.limits.seconds):
                result, added, dropped = await self._refine(work, agent, brief, report)
        except TimeoutError:
            why = f"the model took more than {self.limits.seconds:g} s"
            return Refined(report, self._note(work, prompts, fallback=why))
        except ModelError as error:
            return Refined(report, self._note(work, prompts, fallback=self._failed(error)))
        new = tuple(f for f in result.findings if f not in report.findings)
        self._last_seen[key] = (seen, new)
        while len(self._last_seen) > LOOKS_KEPT:
            self._last_seen.popitem(last=False)
        self.totals.dropped += sum(dropped.values())
        return Refined(result, self._note(work, prompts, added=added, dropped=dropped))

    async def pick(self, question: str, messages: Sequence[Message], tool: Tool) -> JsonObject:
        """The arguments of the one call that the model makes; empty after any failure."""
        work = self.turns.begin("pick", question)
        try:
            self._awake()
            async with asyncio.timeout(self.limits.prose_seconds):
                rung = await self.turns.rung(work)
                made = request(rung, messages, (tool,))
                answer = await self.turns.ask(work, made, most_tokens(made.sent_text()))
        except TimeoutError:
            self._say(f"the model took more than {self.limits.prose_seconds:g} s")
            return {}
        except ModelError as error:
            self._failed(error)
            return {}
        calls = calls_of(answer, (tool,))
        return {} if isinstance(calls, Fault) else arguments_of(calls[0].arguments)

    async def write(self, kind: str, facts: ProseFacts) -> Written:
        """A text in the model's words that passed the fact check, complete by the template."""
        work = self.turns.begin(f"write {kind}", facts.incident_id)
        prompts = {"boundaries": load("boundaries").digest}
        check = FactCheck(facts)
        standing: list[str] = []
        dropped: dict[str, int] = {}
        try:
            self._awake()
            async with asyncio.timeout(self.limits.prose_seconds):
                async with aclosing(self._sentences(work, kind, facts, check)) as judged:
                    async for sentence, reason in judged:
                        if reason:
                            dropped[UNTRUE] = dropped.get(UNTRUE, 0) + 1
                        else:
                            standing.append(sentence)
        except TimeoutError:
            why = f"the model took more than {self.limits.prose_seconds:g} s"
            return Written(facts.template, self._note(work, prompts, fallback=why))
        except ModelError as error:
            why = self._failed(error)
            return Written(facts.template, self._note(work, prompts, fallback=why))
        self.totals.dropped += sum(dropped.values())
        fallback = "" if standing else "no sentence passed the fact check"
        added = {"sentences": len(standing)}
        note = self._note(work, prompts, added=added, dropped=dropped, fallback=fallback)
        return Written(check.completed(standing), note)

    async def stream(self, kind: str, facts: ProseFacts) -> AsyncIterator[str]:
        """As `write`, sentence by sentence as they pass; the template's for what stays missing.

        Never raises for the model's sake: what is left comes from the template. The time is bounded
        while the model is waited for, and never while somebody takes a sentence.
        """
        work = self.turns.begin(f"write {kind}", facts.incident_id)
        check = FactCheck(facts)
        standing: list[str] = []
        clock, left_s = asyncio.get_running_loop().time, self.limits.prose_seconds
        try:
            self._awake()
            async with aclosing(self._sentences(work, kind, facts, check)) as judged:
                while True:
                    began = clock()
                    async with asyncio.timeout(left_s):
                        found = await anext(judged, None)
                    left_s -= clock() - began
                    if found is None:
                        break
                    if not found[1]:
                        standing.append(found[0])
                        yield found[0]
        except TimeoutError:
            self._say(f"the model took more than {self.limits.prose_seconds:g} s")
        except ModelError as error:
            self._failed(error)
        if not standing:
            yield facts.template
        else:
            said = " ".join(standing)
            rest = check.completed(standing)[len(said) :].strip()
            if rest:
                yield rest

    async def close(self) -> None:
        """Close the connections of this event loop; the planner can be used again."""
        await self.turns.endpoint.close()

    def metrics(self) -> str:
        """Usage and cost of this process in the Prometheus text format."""
        return self.totals.exposition(self.settings.model)

    # one investigation

    async def _refine(
        self, work: Work, agent: Agent, brief: Brief, report: Report
    ) -> tuple[Report, dict[str, int], dict[str, int]]:
        seen = await investigate(brief)
        names = names_of(brief, seen)
        cited = [e for f in report.findings for e in f.evidence]
        cited += [e for p in report.proposals for e in p.evidence]
        book = EvidenceBook(brief.reader, [*cited, *seen.cite(tuple(SourceKind))])
        masker = Masker()
        desk = Desk(brief, names, masker, book, self.limits.result_chars)
        reads = read_tools(names)
        known = (*READ_NAMES, *agent.may_propose)
        start = opening(agent, brief, report, seen, names, book, masker, known)
        talk = Conversation(start, self.limits.prompt_tokens)
        rung = await self.turns.rung(work)
        loops, trusted, repaired = Loops(), [start.trusted], False
        for step in range(self.limits.steps):
            ending = report_tool(agent, names, book)
            is_last = step == self.limits.steps - 1
            tools = [ending] if is_last else [*reads, ending]
            answer = await self._turn(work, talk, rung, tools)
            calls = calls_of(answer, tools)
            if isinstance(calls, Fault):
                if repaired:
                    raise Stopped(f"the model's answer cannot be used: {scrub(calls.reason)[:160]}")
                repaired, talk.repair = True, scrub(calls.reason)
                work.notes.append("one repair turn")
                continue
            last = next((c for c in calls if c.name == ending.name), None)
            if last is not None:
                accepted = accept(
                    agent,
                    brief,
                    report,
                    seen,
                    names,
                    book,
                    masker,
                    arguments_of(last.arguments),
                    "\n".join(trusted),
                )
                work.notes += accepted.notes
                return accepted.report, dict(accepted.added), dict(accepted.dropped)
            await self._read(work, desk, loops, talk, calls, trusted)
        raise Stopped(f"no report after {self.limits.steps} turns")

    async def _read(
        self,
        work: Work,
        desk: Desk,
        loops: Loops,
        talk: Conversation,
        calls: Sequence[Call],
        trusted: list[str],
    ) -> None:
        """Run the calls of one turn, each once; parallel calls become turns of their own."""
        for call in calls[:CALLS_PER_TURN]:
            arguments: JsonObject = arguments_of(call.arguments)
            if loops.again(call.name, arguments):
                talk.add([call], "You asked this already and have the answer. Ask something else.")
                continue
            shown: Shown = await run_read(desk, call.name, arguments)
            work.calls += 1
            trusted.append(shown.trusted)
            talk.add([call], shown.text)

    async def _turn(
        self, work: Work, talk: Conversation, rung: Rung, tools: Sequence[Tool]
    ) -> Answer:
        made, need = talk.next_request(rung, tools)
        return await self.turns.ask(work, made, need)

    # one text

    async def _sentences(
        self, work: Work, kind: str, facts: ProseFacts, check: FactCheck
    ) -> AsyncGenerator[tuple[str, str], None]:
        sentences = SentenceStream(check)
        is_cut = False
        async with aclosing(self.turns.stream(work, prose_request(kind, facts))) as pieces:
            async for piece in pieces:
                for sentence in sentences.feed(piece.text):
                    yield sentence.text, sentence.reason
                is_cut = piece.answer is not None and piece.answer.finish == "length"
        for sentence in sentences.finish():
            yield sentence.text, sentence.reason or ("cut by the length limit" if is_cut else "")

    # bookkeeping

    def _awake(self) -> None:
        if self._monotonic() < self._resting_until:
            raise Stopped(f"{self._resting_why} (not asked again for {REST_S:g} s)")

    def _failed(self, error: ModelError) -> str:
        """The line for the note; told once. A dead endpoint rests."""
        why = scrub(str(error))
        if isinstance(error, EndpointError):
            if error.trouble in _DEAD:
                self._resting_until = self._monotonic() + REST_S
                self._resting_why = why
            self._say(why)
        return why

    def _say(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            self._tell(f"{why}; the playbook goes on without it")

    def _note(
        self,
        work: Work,
        prompts: dict[str, str],
        *,
        added: dict[str, int] | None = None,
        dropped: dict[str, int] | None = None,
        fallback: str = "",
    ) -> ModelNote:
        self.totals.fallbacks += bool(fallback)
        return ModelNote(
            task=work.task,
            model=self.settings.model,
            endpoint=self.settings.place,
            rung=work.rung,
            turns=work.turns,
            calls=work.calls,
            largest_prompt=work.largest_prompt,
            elapsed_ms=round((self._monotonic() - work.started) * 1000),
            waited_ms=round(work.waited_s * 1000),
            usage=work.usage,
            prompts=prompts,
            added=added or {},
            dropped=dropped or {},
            notes=tuple(work.notes),
            fallback=fallback,
        )


def _look(brief: Brief, report: Report) -> str:
    """What a playbook says, without the numbers of the moment: asked about the same again, a model
    has nothing to add.
    """
    return digest(
        {
            "findings": sorted(f"{f.kind} {f.subject}" for f in report.findings),
            "proposals": sorted(f"{p.tool} {p.target}" for p in report.proposals),
            "missing": sorted(report.missing),
        }
    )
