"""What people see of the work: readers of its events, as lines, as a live table, as a picture afterwards."""
