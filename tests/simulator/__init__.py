"""The real client over simulated nodes: a loop, a clock and a network of our own, all driven by one seed."""
