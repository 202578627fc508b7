"""How an endpoint is called, and with which key."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from pipeline.config.language import CaptionConfig, EndpointConfig, JudgeConfig, SynthesizeConfig, TokenPrice
from pipeline.errors import SetupError

_OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Everything about the requests of one stage.

    `section` is the configuration's section that these settings come from; it stands before their names in messages.
    `limit` is the setting that `max_tokens` comes from; `retry_base_s` is the wait before the first retry, doubled for
    each more.
    """

    section: str
    model: str
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    temperature: float = 0.0
    max_tokens: int = 400
    limit: str = "max_tokens"
    seed: int = 0
    retry_base_s: float = 0.5

    @property
    def price(self) -> TokenPrice | None:
        """What the model costs, None where it is not known."""
        return self.endpoint.prices.get(self.model)

    def sampling(self) -> dict[str, Any]:
        """Return the fields of a request that, with its messages, decide its answer."""
        fields: dict[str, Any] = {
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.temperature > 0:
            # without sampling a seed changes nothing, and some endpoints refuse the field
            fields["seed"] = self.seed
        return fields


def chat_settings(section: str, config: CaptionConfig | SynthesizeConfig | JudgeConfig) -> ChatSettings:
    """Return the settings of a section of the configuration that names an endpoint.

    Raises:
        SetupError: no model is named.
    """
    if not config.model:
        raise SetupError(f"{section}.backend=openai needs {section}.model, the name of a model of the endpoint")
    return ChatSettings(
        section=section,
        model=config.model,
        endpoint=config,
        temperature=config.temperature,
        max_tokens=config.max_new_tokens if isinstance(config, CaptionConfig) else config.max_tokens,
        limit="max_new_tokens" if isinstance(config, CaptionConfig) else "max_tokens",
        seed=config.seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where to send requests, and the key that opens it; empty where none is needed."""

    base_url: str
    key: str

    @property
    def host(self) -> str:
        """Scheme, host and port: the rest of a URL may hold a password or a token."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"

    def client_options(self) -> dict[str, Any]:
        """Return what a client of the `openai` package is made with; the query of the URL goes with every request."""
        url = urlsplit(self.base_url)
        query = dict(parse_qsl(url.query))
        user, _, place = url.netloc.rpartition("@")
        headers = {}
        if user:
            headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
        if self.key and "api-version" in query:
            # Azure's own paths know the key by this name alone
            headers["api-key"] = self.key
        return {
            # the package refuses to start without a key; a server that needs one will say so
            "api_key": self.key or "no-key",
            "base_url": urlunsplit(url._replace(netloc=place, query="")),
            "default_query": query,
            "default_headers": headers,
        }

    def without_secrets(self, text: str) -> str:
        """Return `text` on one line, short, without the key, not even as some servers repeat it, half starred out."""
        text = text.replace(self.key, "***") if self.key else text
        return re.sub(r"\S*\*{3,}\S*", "***", " ".join(text.split()))[:400]


def find_access(settings: ChatSettings) -> Access:
    """Return URL and key from the settings and the environment.

    Raises:
        SetupError: the URL or the key is malformed, there is neither of the two, or a limit of cost has no price.
    """
    section, endpoint = settings.section, settings.endpoint
    url = endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not _is_url(url):
        raise SetupError(f"{section}.base_url or OPENAI_BASE_URL must be a URL like http://127.0.0.1:8000/v1")
    if not key and url == _OPENAI:
        raise SetupError(f"set OPENAI_API_KEY, or {section}.base_url to an endpoint that needs no key")
    if not (key.isascii() and key.isprintable()):
        raise SetupError("OPENAI_API_KEY holds characters that no key has")
    if endpoint.max_cost is not None and settings.price is None:
        raise SetupError(
            f"{section}.max_cost={endpoint.max_cost} needs the price of {settings.model}: {section}.prices"
        )
    return Access(base_url=url, key=key)


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
