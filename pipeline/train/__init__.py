"""Training of a video MLLM on the dataset of a build."""
