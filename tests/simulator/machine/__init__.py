"""What a story happens in: a loop, a clock, a network, machines with processes and a disk, and what befalls them."""
