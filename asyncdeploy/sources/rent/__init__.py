"""Machines that are rented: you get nodes or nothing, and what was rented is given back or named."""
