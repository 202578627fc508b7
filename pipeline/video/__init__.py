"""Probing, decoding and cutting of video files, exact to the frame."""
