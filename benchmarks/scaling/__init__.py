"""Time of a step on several ranks: measured here, and by a model of nodes and network that is tested on it."""
