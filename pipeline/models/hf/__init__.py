"""Models of transformers: loading, inputs, batches, and what captions, answers and drafts are made with them."""
