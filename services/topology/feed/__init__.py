"""What the owner of a cluster publishes and every replica follows: deltas, views and the page's
streams."""
