"""What every section of the configuration is: frozen, without unknown keys, with an identity."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


def operational(default: Any, **kwargs: Any) -> Any:
    """Declare a setting that changes how a stage runs but never what it makes: it stays out of the fingerprint."""
    return Field(default, json_schema_extra={"operational": True}, **kwargs)


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what a stage makes, without the operational ones."""
        kept = {
            name
            for name, field in type(self).model_fields.items()
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("operational"))
        }
        return self.model_dump(mode="json", include=kept)
