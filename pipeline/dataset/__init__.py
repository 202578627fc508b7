"""An exported dataset: its layout, rows, card, statistics and other formats, and what has to hold in one."""
