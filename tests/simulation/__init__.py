"""A deterministic simulation of two sites and a witness: the agents' own code against models of all the rest."""
