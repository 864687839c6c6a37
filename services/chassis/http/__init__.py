"""HTTP on both sides: what we read of others' answers, and what we let others ask."""
