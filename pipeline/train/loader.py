"""Training batches for a torch DataLoader."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import IterableDataset, get_worker_info

from pipeline.train.batches import TrainingBatch, TrainingBatches


class BatchStream(IterableDataset[TrainingBatch]):
    """Batches for `DataLoader(BatchStream(batches), batch_size=None, num_workers=n)`, in the order of `batches`.

    Each worker decodes, and prepares for the model, every n-th batch; the loader takes them in turn. Workers run ahead
    of the loop that uses the batches: to resume, that loop counts them, and sets `batches.done` before it starts again.
    """

    def __init__(self, batches: TrainingBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[TrainingBatch]:
        worker = get_worker_info()
        return self._batches.part(0, 1) if worker is None else self._batches.part(worker.id, worker.num_workers)

    def __len__(self) -> int:
        """Return the batches that are left of the epoch."""
        return len(self._batches) - self._batches.done
