"""What a secret looks like inside a text: the forms that are known, and a quick way to say "none".

The secret is the one named group that matched; what stands around it stays readable. Each form is
bounded on both sides by what it may not hold, so that a long text costs time in proportion.
"""

from __future__ import annotations

import re

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|credentials?"
    r"|(?:api|access|private|signing|encryption|account|secret|license)[ _-]?key)"
)
_BEFORE = r"(?<![A-Za-z0-9])"
_NEW = r"(?!redacted:[0-9a-f]{64})"  # a hash that stands there already is left alone
_QUOTE = r"\\*[\"']"
# keys that are known by their beginning, wherever they stand
_KEYS = "|".join(
    (
        r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{12,}",
        r"gh[pousr]_[A-Za-z0-9]{16,}",
        r"github_pat_[A-Za-z0-9_]{16,}",
        r"gl(?:pat|dt|rt|ft|soat)-[A-Za-z0-9_-]{12,}",
        r"gl(?:sa|c)_[A-Za-z0-9_+/=-]{16,}",
        r"xox[abeprs]-[A-Za-z0-9-]{8,}",
        r"xapp-[A-Za-z0-9-]{8,}",
        r"A(?:KIA|SIA)[A-Z0-9]{12,}",
        r"AIza[A-Za-z0-9_-]{20,}",
        r"ya29\.[A-Za-z0-9_-]{12,}",
        r"hv[sbr]\.[A-Za-z0-9_-]{12,}",
        r"npm_[A-Za-z0-9]{16,}",
        r"pypi-[A-Za-z0-9_-]{16,}",
        r"dop_v1_[a-f0-9]{16,}",
        r"dapi[a-f0-9]{30,}",
        r"hf_[A-Za-z0-9]{16,}",
        r"whsec_[A-Za-z0-9+/=]{12,}",
        r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{16,}",
        r"NRAK-[A-Z0-9]{12,}",
        r"SG\.[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{12,}",
        r"AGE-SECRET-KEY-1[A-Z0-9]{12,}",
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?",
    )
)
_SCHEME = r"(?:(?:bearer|basic|token|apikey)\s+)?"
_ASSIGNED = (
    rf"(?i:{_NAME}\d*(?:{_QUOTE})?\s*(?:=>|:=|[=:])\s*{_SCHEME})"
    r"(?:\"(?P<double>(?:[^\"\\]|\\.)+)\"|'(?P<single>(?:[^'\\]|\\.)+)'"
    r"|\\+[\"'](?P<escaped>[^\"'\\]+)|[\"']?(?P<bare>[^\s,;&\"'<>\\]+))"
)
FORMS = {
    "scheme": rf"(?i:\bbearer\s+|\bbasic\s+){_NEW}(?P<scheme>[A-Za-z0-9._~+/=-]{{8,}})",
    "address": rf"://{_NEW}[^/\s:@]*:(?P<address>[^/\s\"'<>]+)@",
    "user": r"://(?P<user>[^/\s:@\"'<>]{16,})@",
    "header": (
        rf"(?i:authorization(?:{_QUOTE})?\s*[=:]\s*(?:{_QUOTE})?(?:[a-z][\w-]{{0,30}}\s+)?)"
        r"(?P<header>[^\s\"'\\,;]{8,})"
    ),
    "cookie": (
        rf"(?i:cookie(?:{_QUOTE})?\s*[=:]\s*(?:{_QUOTE})?)"
        r"(?P<cookie>[^\s=;,\"']{1,80}=[^\r\n\"'\\]+)"
    ),
    "assigned": _ASSIGNED,
    "flag": (
        rf"(?<![\w-])(?i:--(?:[a-z0-9]{{1,20}}-){{0,3}}{_NAME}\s+)"
        r"[\"']?(?P<flag>[^\s\"'-][^\s\"']*)"
    ),
    "login": rf"(?<![\w-])(?:-u|--user)[ =][\"']?{_NEW}[^\s:\"']+:(?P<login>[^\s\"']+)",
    "signed": (
        r"(?i:[?&](?:sig|signature|x-amz-signature|x-amz-credential)=)"
        r"(?P<signed>[^\s&\"'<>]+)"
    ),
    "hook": (
        r"(?:hooks\.slack\.com/[a-z]+/|/api/webhooks/\d+/|api\.telegram\.org/bot)"
        r"(?P<hook>[A-Za-z0-9/_:-]{8,})"
    ),
    "pem": (
        r"(?P<pem>-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
        r".*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z))"
    ),
    "key": rf"{_BEFORE}(?P<key>{_KEYS})",
}
SECRET = re.compile("|".join(FORMS.values()), re.DOTALL)
ADDRESS = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")

# in lower case: each form holds at least one of them
HINTS = tuple(
    "bearer basic :// authorization cookie pass pwd secret token credential key -u --user sig= "
    "signature= x-amz- hooks.slack.com /api/webhooks/ api.telegram.org private sk- sk_ pk- pk_ rk- "
    "rk_ ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- glft- glsoat- glsa_ glc_ xox "
    "xapp- akia asia aiza ya29. hvs. hvb. hvr. npm_ pypi- dop_v1_ dapi hf_ whsec_ shpat_ shpca_ "
    "shppa_ shpss_ nrak- sg. eyj".split()
)
_SHORT, _MOST = 64, 4096
_harmless: set[str] = set()


def may_hold(text: str) -> bool:
    """False if a text surely holds no secret: much quicker than looking for one.

    Short texts come again and again (names, effects, states), so those without any hint are
    remembered; those with a hint never are.
    """
    if text in _harmless:
        return False
    if any(map(text.lower().__contains__, HINTS)):
        return True
    if len(text) <= _SHORT:
        if len(_harmless) >= _MOST:
            _harmless.clear()
        _harmless.add(text)
    return False
