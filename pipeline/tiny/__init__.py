"""The recipe of `holmes-tiny`: a video MLLM of a few million parameters that describes the generated sample world."""
