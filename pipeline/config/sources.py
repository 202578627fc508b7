"""Settings of published datasets: which are expected among the videos, and where their lists lie."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.section import Section, operational


class SourcesConfig(Section):
    """Published datasets, each described by a file of datasets/sources, whose official lists rule over its videos."""

    datasets: list[str] = Field(
        [], description="names of files in datasets/sources (ucf-crime, xd-violence), or paths of descriptions"
    )
    annotations: list[str] = operational(
        [],
        description="folders searched first for the lists, clicks and sentences that a description names; then come "
        "the folders of videos, those beside them, and annotations/",
    )
    unlisted: Literal["skip", "keep"] = operational(
        "skip", description="files that are on no list of any of the datasets. skip: named and left out; keep: taken"
    )
