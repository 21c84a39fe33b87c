"""What the ranks of a launch print, in one order, and where they stand."""
