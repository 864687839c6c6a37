"""The gateway: speaks Meshery's adapter contract, all generations, and knows no operation."""
