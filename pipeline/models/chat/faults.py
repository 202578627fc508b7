"""What a failed attempt says, in whatever shape a server says it, and whose fault it is."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from urllib.parse import urlsplit

from pipeline.errors import SetupError
from pipeline.models.chat.messages import error_in
from pipeline.models.chat.settings import Access, ChatSettings

logger = logging.getLogger(__name__)

_MAX_WORDS = 400

# Keys whose values are words for people, the innermost last, and those whose values are for programs.
_WORDS = ("message", "msg", "detail", "error", "errors", "metadata", "raw", "reasons", "innererror")
_CODES = ("code", "type", "status", "param", "finish_reason")

_NO_MONEY = re.compile(
    r"insufficient[_ ](?:quota|credit|balance|fund)|credit balance is too low|exceeded_current_quota|payment required"
    r"|billing[_ ](?:hard[_ ]limit|not[_ ]active)|(?:out of|no|not enough|requires more) credits|arrearage"
)
_FILTER = re.compile(
    r"content[_ ]?filter|content[_ ]?policy|content management policy|responsibleaipolicy|content exists risk"
    r"|data_?inspection_?failed|inappropriate content|safety (?:system|filter|setting)|moderation"
    r"|(?:input|prompt).{0,20}flagged"
)
_BUSY = re.compile(r"rate.?limit|too many requests|\brate\b|quota")
_OVERLOADED = re.compile(
    r"overload|time.?out|timed out|unavailable|capacity|\bbusy\b|try again|server.?error|\bloading\b"
)
_ASTRAY = re.compile(r"unexpected endpoint|not found|no such (?:path|model)")
_REFUSES = re.compile(
    r"unsupported|(?:not|n't) (?:be )?support|only the default|unrecognized|unknown|unexpected|extra (?:inputs|fields)"
    r"|not (?:permitted|allowed)|deprecated|cannot find field|forbidden|additional propert"
)
_SCHEMA = re.compile(r"response_format|json_?schema|\bschema\b|grammar|structured output|guided")

# Servers that crashed and gateways that gave up waiting may have let a model work, others have not begun.
_UNCERTAIN = frozenset({None, 200, 408})
_NOT_BEGUN = frozenset({501, 503, 529})


class Cause(Enum):
    """Why an attempt failed."""

    PASSING = auto()
    """The same request may succeed later."""
    REQUEST = auto()
    """This one request is refused."""
    FILTER = auto()
    """A content filter does not let this one pass."""
    KEY = auto()
    MONEY = auto()
    PLACE = auto()
    """No such path, or no such model."""


class AttemptError(Exception):
    """An attempt failed. `status` is None where nothing was answered; `body` is what was, empty where nothing came.

    `was_sent` is false where there was no connection that a request could have gone over.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int | None = None,
        body: str = "",
        wait_s: float | None = None,
        was_sent: bool = True,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.status = status
        self.body = body
        self.wait_s = wait_s
        """Seconds after which the endpoint asks to be called again."""
        self.may_be_billed = was_sent and (status in _UNCERTAIN or ((status or 0) >= 500 and status not in _NOT_BEGUN))

    @property
    def cause(self) -> Cause:
        """Whose fault it is, by the status and by the words and codes of the server."""
        status, hint = self.status, _hint(self.body)
        if status is None or status == 200:
            return Cause.PASSING
        if status == 402 or _NO_MONEY.search(hint):
            return Cause.MONEY
        if status < 500 and status != 429 and _FILTER.search(hint):
            return Cause.FILTER
        if status in (401, 403):
            return Cause.KEY
        if status in (404, 405):
            return Cause.PLACE
        return Cause.PASSING if status in (408, 409, 429) or status >= 500 else Cause.REQUEST

    def refused_fields(self, sent: Mapping[str, object], *, keeps_limit: bool) -> frozenset[str]:
        """Return those of the fields that were sent which the endpoint says that it does not take.

        A crash alone says nothing of the kind: a server that still loads its model crashes as well. `keeps_limit` where
        a budget needs one: without a limit of its length an answer can cost any amount.
        """
        if self.status is None or not (self.status in (400, 404, 422) or self.status >= 500):
            return frozenset()
        hint = _hint(self.body)
        if "response_format" in sent and _SCHEMA.search(hint):
            return frozenset({"response_format"})
        if self.status >= 500 or not _REFUSES.search(hint):
            return frozenset()
        names = ["temperature", "seed", "max_tokens"] + ([] if keeps_limit else ["max_completion_tokens"])
        return frozenset(name for name in names if name in sent and re.search(rf"\b{name}\b", hint))


def failure_of(status: int, body: str, wait_s: float | None = None) -> AttemptError:
    """Return what a response that is no success says."""
    return AttemptError(f"HTTP {status}: {words_of(body)}", status=status, body=body, wait_s=wait_s)


def hidden_failure(body: str) -> AttemptError | None:
    """Return the failure in a response of status 200, as routers and small servers send it; None where it is none."""
    try:
        error = error_in(json.loads(body))
    except (ValueError, RecursionError):
        return None
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    hint = _hint(json.dumps(error))
    if str(code).isdigit() and 400 <= int(str(code)) < 600:
        status = int(str(code))
    elif _BUSY.search(hint) and not _NO_MONEY.search(hint):
        status = 429
    elif _OVERLOADED.search(hint):
        status = 503
    else:
        status = 404 if _ASTRAY.search(hint) else 400
    return AttemptError(f"HTTP 200, yet an error: {words_of(json.dumps(error))}", status=status, body=body)


def warn_of_lacks(lacks: frozenset[str], said: str, access: Access) -> None:
    """Say which fields are left out from now on because the endpoint does not take them."""
    for name in sorted(lacks):
        instead = ", with max_completion_tokens in its place" if name == "max_tokens" else ""
        text = access.without_secrets(said)
        logger.warning("%s: takes no %s, which is left out from now on%s: %s", access.host, name, instead, text)


def no_usage(access: Access, settings: ChatSettings) -> SetupError:
    """Return that limits of tokens and cost cannot be kept."""
    return SetupError(
        f"{access.host} tells no usage, so that no limit of tokens or cost can be kept; "
        f"{settings.section}.max_requests can"
    )


def explain_setup(fault: AttemptError, access: Access, settings: ChatSettings) -> SetupError | None:
    """Return what no request of this run would get past, in the server's words and with the cure; None where it would.

    The key is not in them, nor what some servers repeat of it.
    """
    section, cure = settings.section, None
    if fault.cause is Cause.KEY:
        cure = f"OPENAI_API_KEY is wrong or may not use {settings.model}" if access.key else "set OPENAI_API_KEY"
    elif fault.cause is Cause.MONEY:
        cure = "the account has no money left; what was answered is kept, run again once it has"
    elif fault.cause is Cause.PLACE and re.search(r"\bmodel", words_of(fault.body).lower()):
        cure = f"no model {settings.model!r} there: set {section}.model to a name that the endpoint knows"
    elif fault.cause is Cause.PLACE:
        elsewhere = where_it_should_be(access, settings)
        cure = f"nothing of the kind there{elsewhere or f': check {section}.base_url and {section}.model'}"
    return None if cure is None else SetupError(f"{access.host}: {access.without_secrets(fault.what)}; {cure}")


def where_it_should_be(access: Access, settings: ChatSettings) -> str:
    """Return a hint where the URL has no version in its path, which nearly all servers have; else nothing."""
    path = urlsplit(access.base_url).path.rstrip("/")
    if re.search(r"/v\d|/openai", path):
        return ""
    return f"; {settings.section}.base_url mostly ends in /v1: try {access.host}{path}/v1"


def words_of(body: str) -> str:
    """Return what a body says to people, on one line: of OpenAI, Azure, Gemini, FastAPI, a router, a web server."""
    try:
        said = list(_walk(json.loads(body), _WORDS))
    except (ValueError, RecursionError):
        said = [re.sub(r"<(?:script|style).*?</(?:script|style)>|<[^>]*>", " ", body, flags=re.DOTALL)]
    words = "; ".join(dict.fromkeys(" ".join(one.split()) for one in said if one.strip()))
    return (words or " ".join(body.split()) or "no word of explanation")[:_MAX_WORDS]


def _hint(body: str) -> str:
    """Return words and codes in small letters; what a server repeats of the request is not among them."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return words_of(body).lower()
    return " ".join([*_walk(value, _WORDS), *_walk(value, (*_WORDS, *_CODES))]).lower()


def _walk(value: object, keys: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, str):
        # a router quotes the body of the server behind it
        yield words_of(value) if value.lstrip()[:2] in ('{"', "[{") else value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list):
        for item in value[:5]:
            yield from _walk(item, keys)
    elif isinstance(value, dict):
        if "loc" in value and "msg" in value:
            yield f"{'.'.join(map(str, value['loc']))}: {value['msg']}"
            return
        for key in keys:
            if key in value:
                yield from _walk(value[key], keys)
        for choice in value.get("choices") or []:
            yield from _walk(choice, keys)
