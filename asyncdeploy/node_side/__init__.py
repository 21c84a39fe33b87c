"""Programs that run on a node: Python >= 3.8, standard library only. They are sent as text and import nothing of ours."""
