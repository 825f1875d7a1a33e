"""Closed lists for the fact check: what may open a sentence, and what only the facts may bring
in.
"""

from __future__ import annotations

FUNCTION_WORDS = frozenset(
    "the of and is was were are to with by from has have that this since because which after "
    "before while our we it".split()
)
NEGATIONS = frozenset("not no never none neither without cannot nothing nobody".split())

UNITS = {
    "%": "%",
    "percent": "%",
    "bp": "bp",
    "s": "s",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "ms": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
    "min": "min",
    "minute": "min",
    "minutes": "min",
    "h": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "user": "users",
    "users": "users",
    "customer": "users",
    "customers": "users",
    "request": "requests",
    "requests": "requests",
    "trace": "traces",
    "traces": "traces",
    "replica": "instances",
    "replicas": "instances",
    "instance": "instances",
    "instances": "instances",
    "time": "times",
    "times": "times",
    "x": "times",
}

NUMBER_WORDS = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "twenty": "20",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "hundred": "100",
    "thousand": "1000",
    "million": "1000000",
}

QUANTITIES = frozenset(
    "half third quarter double doubled triple tripled twice thrice dozen dozens hundreds thousands "
    "millions majority minority all every most few nobody everyone everybody entire entirely "
    "completely fully always "
    "monday tuesday wednesday thursday friday saturday sunday today yesterday tomorrow tonight "
    "january february march april june july august september october november december".split()
)

# beginnings of words: an act, an approval or an outcome that only the facts can bring in
ACTS = tuple(
    "restart reboot roll rollback revert redeploy deploy releas scal resiz drain failover "
    "silenc mut suppress delet drop purg wip flush truncat kill terminat stop shut disabl enabl "
    "block patch hotfix upgrad updat migrat rotat revok grant approv authori authoris permit allow "
    "fix solv repair mitigat resolv recover restor compensat refund credit guarante promis ensur "
    "confirm verif appl chang switch reconfigur increas decreas call email e-mail click visit "
    "download install run execut send sent forward transfer pay contact notif escalat ignor forget "
    "bypass overrid skip cancel clos open merg tag push".split()
)

THINGS = frozenset(
    "database databases cache caches queue queues kafka redis postgres postgresql mysql mongodb "
    "mongo elasticsearch rabbitmq nats kubernetes docker nginx haproxy envoy istio aws azure gcp "
    "cloud cloudflare dns tls ssl certificate certificates network networks firewall disk disks "
    "memory cpu storage bucket s3 hardware power datacenter region regions zone zones node nodes "
    "pod pods cluster clusters host hosts server servers container containers thread threads "
    "attack attacks attacker attackers hacker hackers breach breaches leak leaks leaked stolen "
    "malware ransomware ddos intrusion exploit vulnerability vulnerabilities bug bugs typo "
    "password passwords key keys token tokens credential credentials secret secrets admin root "
    "engineer developer developers team teams vendor vendors supplier manager ceo cto employee "
    "human operator negligence mistake mistakes blame fault guilty lawsuit legal "
    "timeout timeouts deadlock overload outage outages downtime maintenance backup backups "
    "loss lost corrupt corrupted corruption refund refunds discount money price prices "
    "version versions release releases config configuration flag flags commit commits".split()
)

HYPHENATED = frozenset(
    "on-call follow-up long-term short-term up-to-date real-time so-called well-known "
    "edge-facing customer-facing".split()
)

OPENERS = frozenset(
    "a about additionally after again also although an and another any are as at because before "
    "between both but by customers during each errors evidence failures first for from further "
    "here how however if impact in is it its last later meanwhile more moreover next now of on "
    "once one only our over probable requests responses services several since so some still "
    "telemetry than that the their then there therefore these they this those though through "
    "thus traffic under until users we what when where which while who why with within you your "
    "affected currently people".split()
)
