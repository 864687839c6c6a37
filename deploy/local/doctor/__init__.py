"""`make doctor`: what is wrong with an installation, a line each, with what to do."""
