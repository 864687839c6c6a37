"""Every parser of what others wrote, each as one function of bytes that fails in our words only."""
