"""Finding anomalies in a video and explaining them."""
