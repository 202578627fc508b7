"""Rules on texts: what an answer must hold, and which answers are too much alike."""
