"""StreamEvents: who sees which event, up to where each identity has got them."""
