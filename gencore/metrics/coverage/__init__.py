"""How much of the data a model covers, and how much of what it makes is data-like."""
