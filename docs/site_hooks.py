"""Pages of the site that are made from the code: commands, configuration and the executed notebook.

MkDocs calls `on_files` at every build, so that these pages cannot disagree with the code.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer.main
import yaml

from flows.cli import app
from pipeline.config import BuildConfig, Section, describe_config
from pipeline.records import Level, Task

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "entries: at least"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that were written."""
    from mkdocs.structure.files import File

    pages: dict[str, str | bytes] = {
        "reference/commands.md": "\n".join(commands_page()),
        "reference/config.md": "\n".join(config_page()),
    }
    for notebook in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        pages |= notebook_page(notebook)
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def commands_page() -> Iterator[str]:
    """Yield the page of all commands, in Markdown."""
    yield "# Commands\n"
    yield "Results go to stdout, progress and messages to stderr. `holmes --debug COMMAND` logs everything and shows"
    yield "tracebacks.\n"
    yield "| exit code | meaning |\n|---|---|\n| 0 | done |"
    yield "| 1 | the data is at fault; the message names file, row and reason |"
    yield "| 2 | the environment or the call is at fault |"
    yield "| 130 | interrupted; finished work is kept |\n"
    yield from _command(typer.main.get_command(app), "holmes")


def _command(command: Any, path: str) -> Iterator[str]:
    """Describe a command and what lies below it: a heading each, and a table of its parameters."""
    subcommands = getattr(command, "commands", {})
    if path != "holmes":
        yield f"## {path}\n" if path.count(" ") == 1 else f"### {path}\n"
        yield f"{_paragraphs(command.help or '')}\n"
    if subcommands:
        for name in sorted(subcommands):
            yield from _command(subcommands[name], f"{path} {name}")
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = [path, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])]
    yield f"```\n{' '.join(usage)}\n```\n"
    if arguments or options:
        yield "| parameter | meaning | default |\n|---|---|---|"
    for parameter in arguments:
        yield f"| `{_argument(parameter)}` | {_cell(parameter.help or '')} | |"
    for parameter in options:
        value = f" {parameter.metavar}" if parameter.metavar else ""
        names = ", ".join(f"`{name}{value}`" for name in [*parameter.opts, *parameter.secondary_opts])
        required = " (required)" if parameter.required else ""
        yield f"| {names} | {_cell(parameter.help or '')}{required} | {_default(parameter)} |"
    yield ""


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]")
    return name if parameter.required else f"[{name}]"


def _default(parameter: Any) -> str:
    value = parameter.default
    if value is None or value is False or value in ("", [], ()) or parameter.required or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\f", "").split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("{", "&#123;").replace("<", "&lt;")


def config_page() -> Iterator[str]:
    """Yield the page of all settings, in Markdown."""
    yield "# Configuration\n"
    yield "A config file is YAML; `--set section.key=value` overrides single settings. Only `videos` is required. An"
    yield "unknown key or a value outside its limits is an error that names the key, the value and the limit. `holmes"
    yield "config` prints all settings with their defaults.\n"
    yield "Settings marked with † change how a stage runs and never what it makes: changing them remakes nothing.\n"
    yield from _section(BuildConfig, "")
    yield "## As a file\n"
    yield "```yaml\n" + "\n".join(describe_config()) + "\n```\n"


def _section(model: type[Section], path: str) -> Iterator[str]:
    """Describe a section and those inside it: the settings of each in a table."""
    inner: list[tuple[str, type[Section]]] = []
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner.append((f"{path}.{name}".lstrip("."), field.annotation))
            continue
        extras = field.json_schema_extra
        dagger = "&nbsp;†" if isinstance(extras, dict) and extras.get("operational") else ""
        default = [] if field.is_required() else field.get_default(call_default_factory=False)
        meaning = _cell(field.description or "")
        if extra := "; ".join([*_choices(field.annotation), *_limits(field.metadata)]):
            meaning += f" *({extra})*"
        rows.append(f"| `{name}`{dagger} | `{_yaml(default)}` | {meaning} |")
    yield f"## {path or 'Top level'}\n"
    yield f"{_paragraphs(model.__doc__ or '')}\n"
    if rows:
        yield "| setting | default | meaning |\n|---|---|---|"
        yield from rows
        yield ""
    for inner_path, section in inner:
        yield from _section(section, inner_path)


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [", ".join(f"`{choice}`" for choice in get_args(annotation))]
    if get_origin(annotation) is list and get_args(annotation)[0] in (Task, Level):
        return [", ".join(f"`{choice.value}`" for choice in get_args(annotation)[0])]
    options = [option for option in get_args(annotation) if option is not NoneType]
    return _choices(options[0]) if len(options) == 1 and get_origin(annotation) is not list else []


def _limits(metadata: list[Any]) -> list[str]:
    return [
        f"{words} {limit:g}"
        for name, words in _LIMITS.items()
        for entry in metadata
        if (limit := getattr(entry, name, None)) is not None
    ]


def _yaml(value: Any) -> str:
    plain = [item.value if isinstance(item, StrEnum) else item for item in value] if isinstance(value, list) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def notebook_page(notebook: Path) -> dict[str, str | bytes]:
    """Return the page of a notebook as it was executed, and its pictures, by path."""
    lines: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines.append(source + "\n")
            continue
        lines.append(f"```{'bash' if source.startswith('!') else 'python'}\n{source}\n```\n")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{notebook.stem}-{len(pictures) + 1}.png"
                pictures[f"notebooks/{name}"] = base64.b64decode(data["image/png"])
                lines.append(f"![Output of the cell above]({name})\n")
                continue
            text = "".join(output.get("text", data.get("text/plain", [])))
            if output.get("name") != "stderr" and text.strip():
                lines.append(f'<div class="cell-output" markdown>\n\n```text\n{text.rstrip()}\n```\n\n</div>\n')
    lines.insert(1, f"[Download this notebook]({notebook.name})\n")
    return {f"notebooks/{notebook.stem}.md": "\n".join(lines), **pictures}
