"""The prompts: one Markdown file each in `prompts/`, with front matter, strict placeholders and a hash.

A file looks like this; without a `# System` heading the whole body is the user part:

    ---
    id: description
    purpose: One line for people.
    variables: [caption, label]
    ---
    # System
    ...
    # User
    <caption>
    ${caption}
    </caption>

Values put in for placeholders are data. They stand between tags, and since angle brackets inside a value are escaped,
no value can close its tag or forge a control token such as `<|im_end|>` or `[INST]`. Characters that no person sees go.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, TypedDict

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import SetupError
from pipeline.records import digest
from pipeline.resources import PROMPTS

_FILE = re.compile(r"\A---\n(?P<front>.*?)\n---\n(?P<body>.*)\Z", re.DOTALL)
_PARTS = re.compile(r"\A(?:# System\n(?P<system>.*?)\n# User\n)?(?P<user>.*)\Z", re.DOTALL)
# Beside the plain brackets those that tokenizers with NFKC turn into them.
_ESCAPES = str.maketrans(
    {"<": "&lt;", "\uff1c": "&lt;", "\ufe64": "&lt;", ">": "&gt;", "\uff1e": "&gt;", "\ufe65": "&gt;"}
)
_BRACKET_TOKEN = re.compile(r"[\[\uff3b](/?[A-Z_]{3,})[\]\uff3d]")
_VISIBLE_CONTROLS = "\n\t"
_JOINERS = "\u200c\u200d"


class Message(TypedDict):
    """One turn of a chat, as OpenAI-compatible endpoints and chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt with `${name}` placeholders. `system` is empty where the prompt has no system part."""

    id: str
    purpose: str
    variables: tuple[str, ...]
    system: str
    user: str

    @property
    def hash(self) -> str:
        """Hash of what a model reads; rewording the purpose, which no model reads, leaves it as it is."""
        return digest("prompt", self.id, self.system, self.user)

    def render(self, **values: str) -> list[Message]:
        """Fill in every variable, escaped, and return the system message, if there is one, and the user message.

        Raises:
            SetupError: naming the variables that are missing or that the prompt does not have.
        """
        missing = sorted(set(self.variables) - values.keys())
        extra = sorted(values.keys() - set(self.variables))
        if missing or extra:
            faults = [
                f"{kind} {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", extra)) if names
            ]
            raise SetupError(f"prompt {self.id}: variables {'; '.join(faults)}")
        safe = {name: as_data(value) for name, value in values.items()}
        user = Message(role="user", content=Template(self.user).substitute(safe))
        if not self.system:
            return [user]
        return [Message(role="system", content=Template(self.system).substitute(safe)), user]


def as_data(text: str) -> str:
    """Return `text` as it may stand in a prompt: no tag, no control token, nothing that only a machine reads."""
    seen = "".join(
        c for c in text if c in _VISIBLE_CONTROLS or c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs")
    )
    return _BRACKET_TOKEN.sub(r"&#91;\1&#93;", seen.translate(_ESCAPES))


class _FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    purpose: str = Field(min_length=1)
    variables: tuple[str, ...]


@functools.cache
def load_prompt(prompt_id: str, folder: Path = PROMPTS) -> Prompt:
    """Read the prompt of this id.

    Raises:
        SetupError: no such prompt (the nearest one is named), or the file breaks the form of the module docstring.
    """
    known = list_prompts(folder)
    if prompt_id not in known:
        near = difflib.get_close_matches(prompt_id, known, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise SetupError(f"{folder}: no prompt {prompt_id!r}{hint}")
    path = folder / f"{prompt_id}.md"
    try:
        return parse_prompt(path.read_text(encoding="utf-8"), expected_id=prompt_id)
    except (OSError, ValueError, yaml.YAMLError) as fault:
        raise SetupError(f"{path}: not a prompt: {fault}") from None


def list_prompts(folder: Path = PROMPTS) -> list[str]:
    """Return the ids of all prompts, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.md"))


def hash_prompts(prompt_ids: list[str], folder: Path = PROMPTS) -> Mapping[str, str]:
    """Return the hash of each prompt by id."""
    return {prompt_id: load_prompt(prompt_id, folder).hash for prompt_id in prompt_ids}


def parse_prompt(text: str, expected_id: str) -> Prompt:
    """Read the text of a prompt file.

    Raises:
        ValueError: the front matter is missing or wrong, the id is not `expected_id`, or the placeholders of the body
            are not the variables that the front matter lists.
    """
    file = _FILE.match(text)
    if file is None:
        raise ValueError("it must start with front matter between two lines of ---")
    try:
        front = _FrontMatter.model_validate(yaml.safe_load(file["front"]))
    except ValidationError as fault:
        raise ValueError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())) from None
    if front.id != expected_id:
        raise ValueError(f"id {front.id!r} differs from the name of the file")
    parts = _PARTS.match(file["body"].strip() + "\n")
    if parts is None or not parts["user"].strip():
        raise ValueError("the user part is empty")
    system, user = (parts["system"] or "").strip(), parts["user"].strip()
    for part in (system, user):
        if not Template(part).is_valid():
            raise ValueError("a $ is neither a placeholder ${name} nor doubled")
    used = {name for part in (system, user) for name in Template(part).get_identifiers()}
    if used != set(front.variables):
        raise ValueError(f"placeholders {sorted(used)} differ from variables {sorted(front.variables)}")
    return Prompt(id=front.id, purpose=front.purpose, variables=front.variables, system=system, user=user)
