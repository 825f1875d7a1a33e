"""A conversation with the fleet: question by question, with what was said before in mind.

Complete without a model. Everything that it says comes from the ledger, the documents, and reads
that were judged; the one thing that it can set going is a person's request, after a yes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from loop4.domain import SourceKind
from loop4.graphs.conversation import (
    on_actions,
    on_documents,
    on_history,
    on_incidents,
    on_requests,
    on_services,
)
from loop4.graphs.conversation.answerer import CHOICES, Answerer, facts_of, readable, retold
from loop4.graphs.conversation.desk import Desk
from loop4.graphs.conversation.grammar import checked, slots_named, understand
from loop4.graphs.conversation.intents import (
    FOLLOW_UPS,
    TABLE,
    Intent,
    Slots,
    Understood,
)
from loop4.graphs.conversation.judgement import Judgement, judge_dry
from loop4.graphs.conversation.lookout import Lookout
from loop4.graphs.conversation.names import names_of
from loop4.graphs.conversation.on_services import Looking
from loop4.graphs.conversation.phrases import phrase
from loop4.graphs.conversation.sheet import Answer, AnswerKind, Sheet, joined, nobody_listens, shown
from loop4.policies.people import Person
from loop4.tools.backends.ports import Inventory
from loop4.tools.reader import Read, Reader

_PASSING = frozenset({Intent.WHY, Intent.WHO, Intent.AND, Intent.HELP, Intent.YES, Intent.NO})
_OF_INCIDENTS = frozenset(
    {
        Intent.SINCE,
        Intent.PAST,
        Intent.WHY_NOT_DONE,
        Intent.CAUSE,
        Intent.DONE,
        Intent.PENDING,
        Intent.INCIDENTS,
    }
)
_ACTS = frozenset({Intent.MAY, Intent.WHO_COULD, Intent.REQUEST})


@dataclass(slots=True)
class Memory:
    """What a follow-up may mean: the last question, its incident and judgement, and what waits for
    a name or a yes.
    """

    intent: Intent | None = None
    slots: Slots = field(default_factory=Slots)
    incident: str = ""
    judged: Judgement | None = None
    offer: on_actions.Offer | None = None
    half: Understood | None = None  # an act that lacks e.g. the replica


@dataclass(slots=True)
class Conversation:
    """One person's conversation. `person` is who the token says, None if nobody is signed in;
    `desk` is the way to the fleet, None where nothing may be asked for.
    """

    lookout: Lookout
    person: Person | None = None
    desk: Desk | None = None
    answerer: Answerer | None = None
    memory: Memory = field(default_factory=Memory)

    async def ask(self, text: str, say: Callable[[str], None] = nobody_listens) -> Answer:
        """Answer one line. `say` is told each line of the answer as soon as it is known.

        Raises InputError for a line that is no question: empty, too long, with hidden characters.
        """
        line = checked(text)
        sheet = Sheet(say)
        look = await self._look(sheet)
        understood = understand(line, look.names)
        if understood is None and self.answerer is not None:
            understood = await self._chosen(line, look)
        offer, self.memory.offer = self.memory.offer, None
        if understood is None:
            self._not_understood(look, line)
            intent = ""
        else:
            meant = self._resolved(understood)
            intent = meant.intent.value
            sheet.understand(phrase(meant, understood.intent))
            if meant.slots.unknown:
                _unknown_name(look, meant.slots.unknown)
            else:
                await self._answer(look, meant, offer)
        answer = Answer(
            question=shown(line),
            understood=sheet.understood,
            intent=intent,
            kind=sheet.kind,
            lines=tuple(sheet.lines),
            evidence=tuple(sheet.evidence),
            body=sheet.body,
            reads=tuple(
                record for reader in look.readers.values() for record in reader.records.values()
            ),
        )
        return await self._retold(answer, look, say)

    async def _look(self, sheet: Sheet) -> Looking:
        catalogue = self.lookout.documents.catalogue
        environments = sorted({s.environment for s in catalogue.services})
        readers: dict[str, Reader] = {e: self.lookout.reader(e) for e in environments}
        read: Read[Inventory] = Read(None, "", SourceKind.TOPOLOGY)
        if environments:
            read = await readers[environments[0]].inventory()
        names = names_of(catalogue, read.value, self.lookout.fleet().ledger)
        return Looking(self.lookout, names, read.value, readers, sheet)

    async def _chosen(self, line: str, look: Looking) -> Understood | None:
        """A model's choice of an intent that only reads; names come from the person's own words."""
        if self.answerer is None:
            return None
        intent = readable(await self.answerer.choose(line, CHOICES))
        if intent is None:
            return None
        return Understood(intent, slots_named(line, look.names), by="model")

    async def _retold(self, answer: Answer, look: Looking, say: Callable[[str], None]) -> Answer:
        """The answer with a model's checked retelling behind it, each sentence told as it comes."""
        if self.answerer is None or answer.kind is not AnswerKind.ANSWERED:
            return answer
        names = look.names
        known = (*names.services, *names.externals, *(name for name, _ in names.instances))
        facts = facts_of(answer.lines, known)
        told: list[str] = []
        async for sentence in retold(self.answerer, answer.question, facts):
            told.append(shown(sentence))
            say(told[-1])
        return replace(answer, prose=" ".join(told))

    def _resolved(self, understood: Understood) -> Understood:
        """A follow-up as the question that it stands for."""
        memory, slots = self.memory, understood.slots
        if understood.by == "name" and memory.half is not None and slots.service:
            half = memory.half.slots
            filled = replace(half, service=slots.service, instance=slots.instance)
            return replace(memory.half, slots=filled)
        if understood.intent is Intent.AND:
            before = memory.slots
            intent = memory.intent or Intent.SERVICE
            same_kind = replace(slots, verb=before.verb, number=slots.number or before.number)
            if intent in _ACTS:
                same_kind = replace(same_kind, number=slots.number)
            return Understood(intent, replace(same_kind, words=slots.words), understood.by)
        is_about_before = understood.intent is Intent.SINCE and not slots.incident
        is_about_before |= understood.intent is Intent.MAY and not slots.unknown
        if is_about_before and not slots.service:
            return replace(
                understood,
                slots=replace(slots, service=memory.slots.service, instance=memory.slots.instance),
            )
        return understood

    async def _answer(
        self, look: Looking, meant: Understood, offer: on_actions.Offer | None
    ) -> None:
        memory, slots = self.memory, meant.slots
        match meant.intent:
            case Intent.YES | Intent.NO:
                incident = await self._after_offer(look, meant.intent, offer)
            case Intent.WHY:
                incident = await self._why(look)
            case Intent.WHO:
                incident = await self._who(look)
            case Intent.MAY | Intent.WHO_COULD | Intent.REQUEST:
                incident = await self._act(look, meant)
            case Intent.NOTE:
                incident = await on_requests.note(
                    look, self.desk, self.person, slots, memory.incident
                )
            case intent if intent in _OF_INCIDENTS:
                incident = await self._of_incidents(look, meant)
            case _:
                incident = await _read_only(look, meant)
        if incident:
            memory.incident = incident
        memory.half = meant if look.sheet.kind is AnswerKind.INCOMPLETE else None
        if meant.intent not in _PASSING and not (meant.intent in _ACTS and slots.verb is None):
            memory.intent, memory.slots = meant.intent, slots
            if meant.intent not in _ACTS:
                memory.judged = None
            if not incident and slots.service:
                memory.incident = ""

    async def _of_incidents(self, look: Looking, meant: Understood) -> str:
        """What the ledger tells of incidents. Returns the one that it was about, or ""."""
        slots, remembered = meant.slots, self.memory.incident
        match meant.intent:
            case Intent.SINCE:
                return on_incidents.since(look, slots, remembered)
            case Intent.PAST:
                return on_history.why_done(look, slots)
            case Intent.WHY_NOT_DONE:
                return on_history.why_not_done(look, slots)
            case Intent.CAUSE:
                return await on_incidents.cause(look, slots, remembered)
            case Intent.DONE:
                return on_incidents.done(look, slots, remembered)
            case Intent.PENDING:
                return on_incidents.pending(look)
            case _:
                return on_incidents.overview(look, slots)

    async def _act(self, look: Looking, meant: Understood) -> str:
        memory, slots = self.memory, meant.slots
        if meant.intent is Intent.WHO_COULD and slots.verb is None:
            if memory.judged is None:
                on_history.nothing_about(look, "who could allow")
            else:
                on_actions.who_could(look, memory.judged)
            return ""
        memory.judged = None
        act = on_actions.act_of(look, slots)
        if act is None:
            return ""
        requester = self.person.name if self.person else ""
        judged = await judge_dry(self.lookout.fleet(), act, requester=requester)
        memory.judged = judged
        match meant.intent:
            case Intent.MAY:
                on_actions.tell(look, judged)
            case Intent.WHO_COULD:
                on_actions.who_could(look, judged)
            case _:
                memory.offer = on_actions.offer(look, judged, self.person)
        return judged.incident_id

    async def _after_offer(
        self, look: Looking, said: Intent, offer: on_actions.Offer | None
    ) -> str:
        if offer is None or self.desk is None:
            look.sheet.kind = AnswerKind.NOT_UNDERSTOOD
            look.sheet.line("nothing waits for a yes or no here; ask for an act first")
            return ""
        if said is Intent.NO:
            look.sheet.line("nothing was asked for")
            return ""
        return await on_requests.submit(look, self.desk, offer)

    async def _why(self, look: Looking) -> str:
        memory = self.memory
        if memory.judged is not None:
            on_actions.tell(look, memory.judged, full=True)
            return memory.judged.incident_id
        if memory.intent is None:
            on_history.nothing_about(look, "why")
            return ""
        return await on_incidents.cause(look, memory.slots, memory.incident)

    async def _who(self, look: Looking) -> str:
        memory = self.memory
        if memory.judged is not None:
            on_actions.who_could(look, memory.judged)
            return ""
        match memory.intent:
            case None:
                on_history.nothing_about(look, "who")
            case Intent.CHANGES:
                await on_services.changes(look, memory.slots)
            case Intent.PAST | Intent.DONE if memory.incident:
                on_requests.who_did(look, memory.incident)
            case Intent.PENDING:
                on_incidents.pending(look)
            case _:
                on_services.on_call(look, memory.slots)
        return ""

    def _not_understood(self, look: Looking, line: str) -> None:
        look.sheet.kind = AnswerKind.NOT_UNDERSTOOD
        look.sheet.line("I did not understand that, and I do not guess.")
        near = on_documents.mentions(look, slots_named(line, look.names))
        if near:
            look.sheet.line("documents that share words with it:", *(f"file {n}" for n in near))
        _help(look)


async def _read_only(look: Looking, meant: Understood) -> str:
    slots = meant.slots
    match meant.intent:
        case Intent.HELP:
            _help(look)
        case Intent.SERVICES:
            await on_services.services(look)
        case Intent.SERVICE:
            await on_services.service(look, slots)
        case Intent.BUDGET:
            await on_services.budgets(look, slots)
        case Intent.CHANGES:
            await on_services.changes(look, slots)
        case Intent.ON_CALL:
            on_services.on_call(look, slots)
        case Intent.RUNBOOK:
            on_documents.runbook(look, slots)
        case Intent.SEARCH:
            on_documents.search(look, slots)
        case Intent.WHAT_MAY:
            on_actions.what_may(look)
        case _:
            on_actions.unknown_act(look)
    return ""


def _unknown_name(look: Looking, word: str) -> None:
    look.sheet.kind = AnswerKind.UNKNOWN_NAME
    told, names = shown(word, 60), look.names
    if word in names.externals:
        callers = look.lookout.documents.catalogue.upstream(word)
        look.sheet.line(
            f"{told!r} is not ours: an external dependency, reached through {joined(callers)}; I "
            "read and change nothing there, so ask about those",
            "file policies/services.yaml",
        )
        return
    near = names.near(word)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    known = f"known services: {joined(names.services)}"
    look.sheet.line(f"nothing here is called {told!r}; {hint or known}")
    look.sheet.body["suggestions"] = list(near)


def _help(look: Looking) -> None:
    look.sheet.line("I can answer, e.g.:")
    for row in TABLE:
        if row.is_shown and row.intent is not Intent.HELP:
            look.sheet.line(f"  {row.example}")
    look.sheet.line(f"and after an answer: {' '.join(FOLLOW_UPS)}")
