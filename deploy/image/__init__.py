"""`make image`: what goes into the two images, and building them with what is there."""
