"""The ranks of one job, as data: who they are, where they stand, what they start with."""
