"""Options that several commands have in common: which model is loaded, and how."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

ModelBase = Annotated[
    str | None, typer.Option("--model-base", help="base of the adapter; default: the one it was trained on")
]
Theta = Annotated[
    float | None,
    typer.Option("--theta", help="score from which a peak makes a span; default: the sampler's own, else 0.8"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"], typer.Option("--dtype", help="of the weights that are loaded")
]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="run code that comes with the model")]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="read weights from pickle files, which can run code")]
