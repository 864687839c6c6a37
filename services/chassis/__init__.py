"""What every service stands on. It knows no domain and imports no service."""
