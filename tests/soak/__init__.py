"""Work and faults for a long time: memory, descriptors, tasks, processes and disk are in the end as at the start."""
