"""What every section of the configuration is: frozen, without unknown keys, with an identity."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.errors import SetupError
from pipeline.plugins import find_plugin

Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


def plugin_name(group: str) -> AfterValidator:
    """Accept the names of a group's plug-ins alone, in the spelling that they are known by."""

    def check(name: str) -> str:
        try:
            return find_plugin(group, name).name
        except SetupError as fault:
            raise ValueError(str(fault)) from None

    return AfterValidator(check)


def operational(default: Any, **kwargs: Any) -> Any:
    """Declare a setting that changes how a stage runs but never what it makes: it stays out of the fingerprint."""
    return Field(default, json_schema_extra={"operational": True}, **kwargs)


def added(default: Any, **kwargs: Any) -> Any:
    """Declare a setting that its section did not always have: at its default it stays out of the fingerprint.

    What was made before there was such a setting is then up to date.
    """
    return Field(default, json_schema_extra={"added": True}, **kwargs)


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what a stage makes: not the operational ones, nor added ones at defaults."""
        kept = set()
        for name, field in type(self).model_fields.items():
            marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            if not (marks.get("operational") or (marks.get("added") and getattr(self, name) == field.default)):
                kept.add(name)
        return self.model_dump(mode="json", include=kept)
