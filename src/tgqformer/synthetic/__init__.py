"""What the project draws itself: the studio catalogue, noise with exact masks, simulated shoppers."""
