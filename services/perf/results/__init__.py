"""Shows a finished run: fortio's form, SMP's, text, a page, pictures, HdrHistogram logs."""
