"""Research on top of the core: recurrent spiking networks, online learning, analyses, fine-tuning."""
