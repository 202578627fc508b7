"""How many steps a training takes, and of how many rows, where the settings leave it to the number of rows."""

from __future__ import annotations

import math

from pipeline.config import LoraConfig

FEW_STEPS = 50
"""Steps below which a training is warned of: rates have hardly risen when they fall again."""

_GOOD_STEPS = 60
_LEAST_BATCH, _MOST_BATCH = 8, 128
_MOST_EPOCHS = 8


def planned(config: LoraConfig, rows: int, devices: int) -> LoraConfig:
    """Return the settings with batch size and epochs set, those that are not following the number of rows.

    Of tens of thousands of rows it is one pass in batches of 128, as in Holmes-VAD; of fewer rows batches are smaller,
    and of hundreds passes are more, until there are 60 steps.
    """
    batch_size, epochs, micro_batch = config.batch_size, config.epochs, config.micro_batch
    if batch_size is None:
        wanted = max(1, rows * (epochs or 1) // _GOOD_STEPS)
        batch_size = min(max(2 ** (wanted.bit_length() - 1), _LEAST_BATCH), _MOST_BATCH)
        micro_batch = min(micro_batch, max(1, batch_size // devices))
        batch_size = math.ceil(batch_size / (micro_batch * devices)) * micro_batch * devices
    if epochs is None:
        epochs = min(max(1, math.ceil(_GOOD_STEPS * batch_size / rows)), _MOST_EPOCHS)
    return config.model_copy(update={"batch_size": batch_size, "epochs": epochs, "micro_batch": micro_batch})
