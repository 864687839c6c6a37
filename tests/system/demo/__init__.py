"""The demo: the main job end to end, as Meshery would drive it."""
