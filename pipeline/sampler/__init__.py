"""The temporal sampler: its network and training, event proposals, frame sampling."""
