"""Learning in the environment: TD3 and its relatives on sequences, for spiking policies that carry a state."""
