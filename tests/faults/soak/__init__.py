"""Hours of steady load under seeded faults, and what must be true after them: `make soak`."""
