"""How much of what could be known of simulated shops a trained version knows."""
