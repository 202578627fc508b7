"""The root of an XML annotation file."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from annotation.source import Source
from pipeline.errors import DataError


def read_root(source: Source, tag: str, tool: str) -> ElementTree.Element:
    """Return the root element.

    Raises:
        DataError: no well-formed XML, another root, or a document type, which can make a small file grow without end.
    """
    if not source.is_xml:
        raise DataError(f"{source.path}: not XML, as {tool} writes it")
    if "<!DOCTYPE" in source.text:
        raise DataError(f"{source.path}: XML with a document type, which {tool} does not write, is not read")
    try:
        # as text, whose declaration of an encoding no longer counts
        root = ElementTree.fromstring(source.text)  # noqa: S314  (without a document type there are no entities)
    except ElementTree.ParseError as fault:
        raise DataError(f"{source.path}: not well-formed XML: {fault}") from None
    if root.tag != tag:
        raise DataError(f"{source.path}: <{root.tag}> and not <{tag}>, as {tool} writes it")
    return root


def opens_with(source: Source, tag: str) -> bool:
    """Whether the first element of a file is `tag`."""
    found = re.search(r"<([A-Za-z_][\w.-]*)", source.text[:10_000]) if source.is_xml else None
    return found is not None and found[1] == tag
