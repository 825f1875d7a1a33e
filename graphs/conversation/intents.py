"""What a person may ask, as a table: one row an intent, with the sentences that mean it.

A sentence is written in words after `grammar.words_of` (lower case, without filler such as "the"):
`a|b` is one of them, `[a]` may be missing, `...` is any number of words, `{act}` a verb of `VERBS`,
`{name}` a service or replica, `{incident}` an incident id, `{number}` a whole number. Rows are
tried from the top; `keywords` decide when no sentence fits and one row alone has the most of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Intent(StrEnum):
    """One kind of question. Only REQUEST, NOTE and YES can lead to something being written."""

    HELP = "help"
    MAY = "may"
    WHO_COULD = "who_could"
    WHAT_MAY = "what_may"
    WHY_NOT_DONE = "why_not_done"
    PAST = "past"
    REQUEST = "request"
    NOTE = "note"
    YES = "yes"
    NO = "no"
    WHY = "why"
    SINCE = "since"
    WHO = "who"
    AND = "and"
    ON_CALL = "on_call"
    CAUSE = "cause"
    DONE = "done"
    PENDING = "pending"
    BUDGET = "budget"
    CHANGES = "changes"
    RUNBOOK = "runbook"
    SEARCH = "search"
    INCIDENTS = "incidents"
    SERVICES = "services"
    SERVICE = "service"
    UNKNOWN_ACT = "unknown_act"


@dataclass(frozen=True, slots=True)
class Verb:
    """An act that can be judged or asked for: its name for readers, its tool, its word forms."""

    name: str
    tool: str
    forms: tuple[str, ...]


VERBS = (
    Verb(
        "roll back",
        "deployments.roll_back",
        ("roll back", "rolled back", "rolling back", "rollback", "revert", "reverted"),
    ),
    Verb(
        "restart",
        "workloads.restart",
        ("restart", "restarted", "restarting", "reboot", "rebooted", "bounce"),
    ),
    Verb("scale", "workloads.scale", ("scale", "scaled", "scaling")),
    Verb("silence alerts of", "alerts.silence", ("silence", "silenced", "mute", "muted")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One intent: an example for people, what it is about, and the sentences that mean it."""

    intent: Intent
    example: str
    sentences: tuple[str, ...]
    keywords: frozenset[str] = frozenset()
    is_shown: bool = True


def _row(
    intent: Intent, example: str, *sentences: str, keywords: str = "", is_shown: bool = True
) -> Row:
    return Row(intent, example, sentences, frozenset(keywords.split()), is_shown)


_YOU = "you|i|we|loop4|fleet"
_MAY = "may|can|could|should|would"
_ALLOW = "allow|approve|authorise|authorize|permit"
_BAD = "failing|broken|slow|down|red|burning|bad|breached|degraded|unhealthy|ill"

TABLE: tuple[Row, ...] = (
    _row(
        Intent.YES,
        "yes",
        "yes|y|yep|confirm|confirmed|ok|okay",
        "do it",
        "go ahead",
        is_shown=False,
    ),
    _row(Intent.NO, "no", "no|n|nope|cancel|abort", "never mind", "forget it", is_shown=False),
    _row(
        Intent.HELP,
        "what can you answer?",
        "help",
        "what|which can you answer|tell|explain|say ...",
        "what can|may|could i|we ask|say ...",
        "what|which questions ...",
    ),
    _row(
        Intent.WHAT_MAY,
        "what may you do on your own?",
        "what may|can|could|do you do [on] [your] [own|alone|yourself|here]",
        "what are you allowed to do ...",
        "what|which actions|acts|tools may|can|could|are ...",
    ),
    _row(
        Intent.WHO_COULD,
        "who could allow it?",
        f"who {_MAY}|must {_ALLOW} [it|that|this]",
        f"who {_MAY}|must {_ALLOW} ... {{act}} [of] {{name}} ...",
        "who approves [it|that|this]",
    ),
    _row(
        Intent.MAY,
        "may you restart payments-2 now?",
        f"{_MAY} {_YOU} {{act}} {{name}} ...",
        f"{_MAY} {_YOU} {{act}} [it|that|them]",
        "are|am you|i|we allowed to {act} {name} ...",
        "is it allowed|ok|okay|safe|permitted to {act} {name} ...",
        "what [happens] if you|i|we {act} {name} ...",
        "why can|may|could you|i|we not {act} {name} ...",
    ),
    _row(
        Intent.WHY_NOT_DONE,
        "why did you not restart payments-1?",
        "why did|have you|we|loop4|fleet not {act} {name} ...",
        "why did|have not you|we|loop4|fleet {act} {name} ...",
        "why was|were {name} not {act} ...",
    ),
    _row(
        Intent.PAST,
        "why did you roll back orders?",
        "why|when|how did|have you|we|they|loop4|fleet {act} {name} ...",
        "why|when was|were|is {name} {act} ...",
        "did|have you|we|they|loop4|fleet {act} {name} ...",
        "was|were {name} {act} ...",
        "who {act} {name} ...",
    ),
    _row(
        Intent.REQUEST,
        "roll back orders to 41",
        "[i] [want|need] [you] [to] {act} {name} [to] [revision|version] [{number}] [replicas]",
    ),
    _row(
        Intent.NOTE,
        "look at payments too",
        "[also] look [also] at|into {name} [too|also]",
        "[also] check|investigate|examine|consider {name} [too|also]",
    ),
    _row(
        Intent.ON_CALL,
        "who is on call for orders?",
        "who is on call ...",
        "who owns {name}",
        "who do i|we call|page|ask ...",
        keywords="on-call oncall owner owners",
    ),
    _row(
        Intent.WHY,
        "why?",
        "why [not]",
        "why is that [so]",
        "how so",
        "how do you know [that|this]",
        "[what|which|give|list] evidence ...",
        is_shown=False,
    ),
    _row(
        Intent.SINCE,
        "since when?",
        "since when ...",
        "how long ...",
        "when did it|this|that|incident start|begin ...",
    ),
    _row(
        Intent.WHO, "who?", "who", "who did|was it|that|this", "by who|whom", "whom", is_shown=False
    ),
    _row(
        Intent.AND,
        "and payments?",
        "and [for|of|in|what] [about] {name}",
        "what|how about {name}",
        is_shown=False,
    ),
    _row(
        Intent.CAUSE,
        "why is orders failing?",
        f"why is|are|was {{name}} [so] {_BAD} ...",
        f"why {{name}} is|are [so] {_BAD} ...",
        "why does|did {name} fail|break|burn ...",
        "what is wrong|up with {name} ...",
        "what is cause|reason|explanation ...",
        "what caused ...",
        "diagnose {name}",
        "[what] [is] [root] cause [of] ...",
        keywords="cause reason guilty culprit",
    ),
    _row(
        Intent.DONE,
        "what did you do?",
        "what did|have you|we|loop4|fleet do|done|tried|try ...",
        "what was|has [been] done|tried ...",
        "what actions were taken ...",
    ),
    _row(
        Intent.PENDING,
        "what is pending?",
        "what is|are pending|waiting|planned|proposed ...",
        "what waits ...",
        "what needs|need approval|approvals|decision|decisions|me|us ...",
        "what do you propose|suggest|recommend|plan|want ...",
        "what should i|we do|approve ...",
        keywords="pending approvals approval waiting proposals",
    ),
    _row(
        Intent.BUDGET,
        "how much error budget is left for orders?",
        "budget|budgets",
        keywords="budget budgets slo slos",
    ),
    _row(
        Intent.CHANGES,
        "what changed in the last 30 minutes?",
        "what|who|which [has|have|is|was] [been] changed|deployed|shipped|released|new ...",
        keywords="changed changes change deploys deployed deployments deployment releases",
    ),
    _row(
        Intent.RUNBOOK,
        "what does the runbook say about a crash loop?",
        "runbooks",
        keywords="runbook runbooks playbook",
    ),
    _row(
        Intent.SEARCH,
        "what did we decide about the bank?",
        "search|find ...",
        "look up ...",
        "what did we|you decide ...",
        "what do we|you know ...",
        "have we|you seen|had ...",
        keywords="postmortem postmortems decision decisions policy policies retrospective signals",
    ),
    _row(
        Intent.INCIDENTS,
        "what is going on?",
        "what is going on ...",
        "what is happening|wrong|broken|up|failing|burning [now|here|today]",
        "what happened ...",
        "status",
        "how is everything|it|all|fleet [going|doing]",
        "is anything|something|everything wrong|broken|ok|fine|well|failing",
        "{incident}",
        "about {incident}",
        "what is|about {incident}",
        keywords="incident incidents outage outages",
    ),
    _row(
        Intent.SERVICES,
        "what services are there, and how are they?",
        "services",
        "how are|is they|all|services [doing]",
        "what do you watch|run",
        keywords="services",
    ),
    _row(
        Intent.SERVICE,
        "how is orders?",
        "how is|are {name} [doing|going]",
        "how {name} is|are [doing|going]",
        f"is|are {{name}} ok|okay|healthy|fine|up|well|{_BAD}",
        "state|status|health|targets of|for {name}",
        "{name} state|status|health|targets",
    ),
    _row(
        Intent.UNKNOWN_ACT,
        "may you delete orders?",
        f"{_MAY} {_YOU} ...",
        "are you allowed to ...",
        is_shown=False,
    ),
)

FOLLOW_UPS = ("why?", "and payments?", "since when?", "who?")


@dataclass(frozen=True, slots=True)
class Slots:
    """What a question names. Every name is one that exists; `unknown` is a word that should be one.

    `service` is filled from a replica too. `words` are all words of the question.
    """

    service: str = ""
    instance: str = ""
    incident: str = ""
    verb: Verb | None = None
    number: int | None = None
    words: tuple[str, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Understood:
    """An intent with its slots. `by` says how it was found: sentence, keyword, name or model."""

    intent: Intent
    slots: Slots = field(default_factory=Slots)
    by: str = "sentence"


ROWS: Mapping[Intent, Row] = MappingProxyType({row.intent: row for row in TABLE})
