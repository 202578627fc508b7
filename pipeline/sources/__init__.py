"""Published datasets: what their owners hand out, and which video of theirs a file is."""
