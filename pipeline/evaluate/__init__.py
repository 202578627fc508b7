"""How good a detector is: measures, their plots, and the numbers of a workspace against ground truth."""
