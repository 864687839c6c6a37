"""The feed of a cluster, which its owner publishes and every replica follows: deltas, views, and
the streams of the page."""
