"""What a build will take, before it is begun and while it runs: counts, tokens, hours, disk and cost. Makes nothing."""
