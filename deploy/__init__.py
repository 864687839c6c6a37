"""Everything to run Meshbus outside a checkout: the configuration of NATS, images, charts."""
