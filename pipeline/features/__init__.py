"""Features of videos: what an encoder sees of every snippet, as one small array per video."""
