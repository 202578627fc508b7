"""People's verdicts on instruction pairs: out to them, back in, and how far they agree."""
