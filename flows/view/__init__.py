"""`holmes view`: the pairs of a workspace in a browser, each beside its clip, to be accepted or rejected."""
