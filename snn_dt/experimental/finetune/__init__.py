"""Going on with a return-conditioned model in its environment."""
